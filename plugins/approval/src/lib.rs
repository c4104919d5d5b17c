//! A purchase waits for a person: it may be approved, refused or changed meanwhile, and lapses after a week.

use std::{cell::RefCell, rc::Rc, time::Duration};

use airlock::{Error, Result, Sent, Workflow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is to be bought.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Purchase {
    item: String,
    /// In cents.
    amount: u64,
}

/// Where a purchase stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
struct State {
    purchase: Purchase,
    status: Status,
    /// How often somebody was reminded.
    reminders: u32,
    /// Who decided, as the host knows them.
    decided_by: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Status {
    Waiting,
    Approved,
    Refused,
    Lapsed,
}

airlock::signal!(
    /// Somebody decides.
    Decide(approved: bool) = "decide"
);
airlock::query!(
    /// Where the purchase stands.
    Standing() -> State = "state"
);
airlock::update!(
    /// Changes the amount while nobody has decided, and gives the one before.
    SetAmount(amount: u64) -> u64 = "set_amount"
);

/// No more than this without asking somebody else.
const LIMIT: u64 = 1_000_000;
const REMIND: Duration = Duration::from_secs(86_400);
const DAYS: u32 = 7;

/// Says to whoever reads the log that a decision is wanted.
#[airlock::activity]
async fn remind(purchase: Purchase) -> Result<()> {
    airlock::log::info!("{} for {} cents waits for a decision", purchase.item, purchase.amount);
    Ok(())
}

/// Orders what was approved. The key makes sure that it is ordered once.
#[airlock::activity]
async fn order(purchase: Purchase, context: airlock::ActivityContext) -> Result<String> {
    Ok(format!("{} ordered as {}", purchase.item, context.idempotency_key()))
}

/// Waits for a decision about a purchase, reminds once a day, and orders what is approved.
#[airlock::workflow(
    name = "approval",
    display_name = "Purchase approval",
    signals(Decide),
    queries(Standing),
    updates(SetAmount),
    search_keys("item"),
    execution_timeout = "8d"
)]
async fn approval(ctx: Workflow, purchase: Purchase) -> Result<State> {
    let state =
        Rc::new(RefCell::new(State { purchase, status: Status::Waiting, reminders: 0, decided_by: None }));
    let shown = state.clone();
    ctx.on_query::<Standing>(move |()| Ok(shown.borrow().clone()));
    let (seen, changed) = (state.clone(), state.clone());
    ctx.on_valid_update::<SetAmount, _>(
        move |sent: &Sent<u64>| match seen.borrow().status {
            Status::Waiting if sent.value <= LIMIT => Ok(()),
            Status::Waiting => Err(Error::new("TooMuch", format!("at most {LIMIT} cents"))),
            _ => Err(Error::new("TooLate", "it is decided")),
        },
        move |sent| {
            let before = std::mem::replace(&mut changed.borrow_mut().purchase.amount, sent.value);
            async move { Ok(before) }
        },
    );

    let decision = loop {
        match ctx.timeout(REMIND, ctx.signal_sent::<Decide>()).await {
            Ok(decision) => break Some(decision?),
            Err(_) if state.borrow().reminders + 1 == DAYS => break None,
            Err(_) => {
                let purchase = state.borrow().purchase.clone();
                ctx.activity(remind, purchase).await?;
                state.borrow_mut().reminders += 1;
            }
        }
    };
    let status = match &decision {
        Some(Sent { value: true, .. }) => Status::Approved,
        Some(_) => Status::Refused,
        None => Status::Lapsed,
    };
    state.borrow_mut().status = status;
    state.borrow_mut().decided_by = decision.map(|decision| decision.sender);
    ctx.set_search_key("status", format!("{status:?}").to_lowercase())?;
    if status == Status::Approved {
        let purchase = state.borrow().purchase.clone();
        ctx.activity(order, purchase).await?;
    }
    let end = state.borrow().clone();
    Ok(end)
}

airlock::plugin!(workflows: [approval], activities: [remind, order]);

#[cfg(test)]
mod tests {
    use airlock::testing::Test;
    use serde_json::json;

    use super::*;

    fn hour(n: u64) -> Duration {
        Duration::from_secs(3600 * n)
    }

    #[test]
    fn an_approved_purchase_is_ordered_as_it_was_changed() {
        let ended = Test::of(AirlockPlugin)
            .update_at::<SetAmount>(hour(1), &2_000_000)
            .update_at::<SetAmount>(hour(2), &900)
            .signal_at::<Decide>(hour(30), &true)
            .crash_at_every_commit()
            .run("approval", json!({"item": "chair", "amount": 500}));
        let state = ended.query::<Standing>(&()).unwrap();
        assert_eq!((state.status, state.purchase.amount, state.reminders), (Status::Approved, 900, 1));
        assert_eq!(ended.updates[0].as_ref().unwrap_err().kind(), "TooMuch");
        assert_eq!(ended.updates[1].as_ref().unwrap(), 500);
        assert_eq!(ended.steps.last().unwrap(), "activity order");
    }

    #[test]
    fn a_refused_purchase_is_not_ordered_and_one_that_nobody_decides_lapses() {
        let refused = Test::of(AirlockPlugin)
            .signal_after::<Decide>(0, &false)
            .run("approval", json!({"item": "chair", "amount": 500}));
        assert_eq!(refused.output.as_ref().unwrap()["status"], "refused");
        let lapsed = Test::of(AirlockPlugin).run("approval", json!({"item": "chair", "amount": 500}));
        assert_eq!(lapsed.output.as_ref().unwrap()["status"], "lapsed");
        assert_eq!(lapsed.output.unwrap()["reminders"], 6);
        assert!(!refused.steps.iter().chain(&lapsed.steps).any(|step| step == "activity order"));
    }
}
