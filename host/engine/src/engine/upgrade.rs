//! Moving open executions to other code, after a trial.

use std::sync::Arc;

use async_recursion::async_recursion as boxed;

use super::{
    Address, ControlError, Engine,
    cell::{Cell, Live, Message, Refused},
    now_ms, turn,
    turn::Rebuild,
};
use crate::{Digest, machine::Input, store::StoreError, witness::Step};

/// What became of an upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upgrade {
    /// It runs on this code already.
    Already,
    /// The code repeats its history; unless it was a trial, it goes on with it.
    Fits,
    /// The code does not repeat its history; it goes on with what it has.
    Refused(String),
}

impl Engine {
    /// Moves an execution to other code if that repeats its history. A `trial` only says whether it would.
    pub async fn upgrade(
        &self,
        whom: impl Into<Address<'_>>,
        digest: Digest,
        trial: bool,
    ) -> Result<Upgrade, ControlError> {
        self.change_code(whom.into(), digest, trial).await
    }

    #[boxed]
    async fn change_code<'a>(
        &self,
        whom: Address<'a>,
        digest: Digest,
        trial: bool,
    ) -> Result<Upgrade, ControlError>
    where
        'a: 'async_recursion,
    {
        let row = self.open_row(whom)?;
        if row.digest == digest {
            return Ok(Upgrade::Already);
        }
        let cell = self.cell(&row);
        let (reply, done) = tokio::sync::oneshot::channel();
        cell.send(Message::Upgrade { digest, trial, reply });
        self.drive(&cell).await;
        match done.await {
            Ok(Ok(Ok(()))) => {
                if !trial {
                    self.guests.retain(&self.store.pinned()?);
                }
                Ok(Upgrade::Fits)
            }
            Ok(Ok(Err(why))) => Ok(Upgrade::Refused(why)),
            Ok(Err(Refused::Store(error))) => Err(error.into()),
            Ok(Err(Refused::Ended)) | Err(_) => Err(ControlError::Ended(row.id)),
        }
    }

    /// The driver's part. The inner result says why the code does not fit.
    pub(super) async fn upgrade_run(
        &self,
        cell: &Arc<Cell>,
        live: &mut Box<Live>,
        digest: Digest,
        trial: bool,
    ) -> Result<Result<(), String>, StoreError> {
        let started = live.machine.started();
        match self.guests.definition(&digest).await {
            Ok(definition) if definition.workflow(&started.workflow).is_some() => {}
            Ok(_) => return Ok(Err(format!("it has no workflow '{}'", started.workflow))),
            Err(error) => return Ok(Err(error.to_string())),
        }
        let init = turn::init(&cell.row.id, started, live.machine.started_at());
        let _running = self.crashes.begin(Step::Turn(cell.row.run_id));
        match self.repeat(cell.key, &digest, init, live.index).await {
            Ok(_) => {}
            Err(Rebuild::Store(error)) => return Err(error),
            Err(Rebuild::Diverged(why)) => return Ok(Err(why)),
            Err(Rebuild::Guest(error)) => return Ok(Err(error.to_string())),
            Err(Rebuild::NotBegun) => {}
        }
        if !trial {
            let was_blocked = live.machine.blocked().is_some();
            live.machine.receive(Input::Upgrade(digest), now_ms());
            if was_blocked {
                live.machine.receive(Input::Unblock, now_ms());
            }
            self.commit(cell, live, None, None).await?;
        }
        Ok(Ok(()))
    }
}
