//! Pending authorisations: what is remembered between the link that somebody is given and the browser that comes back.
//!
//! Promises (THREATS row 12): a state is good once, for ten minutes, and only in the browser that opened the link first;
//! states and cookies are stored as hashes, and the PKCE verifier and the address with the state are sealed in the vault,
//! bound to principal, connector and flow; a restart loses nothing. Whoever holds neither the id nor the state of a flow
//! learns nothing of it.

use std::collections::HashMap;

use airlock_engine::{
    Principal,
    records::{Change, Records},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, HeaderValue, header};
use parking_lot::Mutex;
use rand::Rng;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::Url;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    ConnectorsError,
    oauth::{Begun, Facts, Pending, state_hash},
    registry::scope::Scope,
    vault::{self, Vault},
};

const TABLE: &str = "oauth_flows";

/// How long an authorisation may take.
pub(crate) const LIFE: TimeDelta = TimeDelta::minutes(10);

/// How long it is remembered after that, so that a late browser can be told what happened.
const MEMORY: TimeDelta = TimeDelta::hours(1);

/// Flows of one principal: the oldest makes room.
const PER_PRINCIPAL: usize = 20;

/// Where the daemon's pages about authorisations are, and where browsers send the cookie.
const PATH: &str = "/v1/airlock/oauth";

/// All pending authorisations, in memory and in the store.
pub(crate) struct Flows(Mutex<HashMap<String, Flow>>);

/// What an authorisation is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ask {
    /// Who gets the credential, or for whom it is stored in a shared scope.
    pub(crate) principal: Principal,
    pub(crate) connector_id: String,
    pub(crate) credential: FlowCredential,
    /// Where the browser goes in the end, already [checked](crate::oauth::return_url()).
    pub(crate) app_return_url: Option<Url>,
}

/// The credential that will be stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FlowCredential {
    pub(crate) scope: Scope,
    pub(crate) name: String,
    pub(crate) title: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Flow {
    ask: Ask,
    facts: Facts,
    stage: Stage,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    /// Nobody has opened the link.
    Waiting,
    /// A browser has: the hash of its cookie.
    Opened(String),
    /// The state was used. There is nothing left in the vault.
    Used,
    /// It took too long. There is nothing left in the vault.
    Expired,
}

/// What of a flow is secret, as it is sealed.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct Sealed {
    verifier: String,
    authorization_url: String,
}

/// Where to send a browser.
pub(crate) struct Started {
    /// At the authorization server; it holds the state.
    pub(crate) authorization_url: SecretString,
    /// For `Set-Cookie`.
    pub(crate) cookie: HeaderValue,
}

/// A flow whose browser came back. It is over.
pub(crate) struct Claimed {
    pub(crate) id: String,
    pub(crate) ask: Ask,
    pub(crate) pending: Pending,
    /// For `Set-Cookie`: the browser forgets the flow.
    pub(crate) clear_cookie: HeaderValue,
}

/// Why a link or a returning browser is not served.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum FlowError {
    /// There is no such flow, or not any more.
    #[error("this authorisation is not known: the link is incomplete or old. Start again where you got it")]
    Unknown,
    /// The ten minutes are over.
    #[error("this authorisation took longer than 10 minutes: start again where you got the link")]
    Expired,
    /// It was finished, successfully or not.
    #[error("this authorisation was finished already: start again if the account is not connected")]
    Used,
    /// Another browser opened the link first.
    #[error(
        "this authorisation was begun in another browser: finish it there, or start again with a new link"
    )]
    OtherBrowser,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] ConnectorsError),
}

impl Flows {
    pub(crate) fn open(records: &dyn Records) -> Result<Self, ConnectorsError> {
        let mut all = HashMap::new();
        for (id, value) in records.scan(TABLE, "", None, usize::MAX)? {
            all.insert(id, serde_json::from_slice(&value)?);
        }
        Ok(Self(Mutex::new(all)))
    }

    /// Remembers an authorisation and gives its id, for the link `/v1/airlock/oauth/start/{id}`, which is good for [`LIFE`].
    ///
    /// Who asks again for the same thing before anybody opened the link gets the same id: the link that was given out
    /// before leads to the new authorisation, whose time begins now.
    pub(crate) fn create(
        &self,
        records: &dyn Records,
        vault: &Vault,
        now: DateTime<Utc>,
        ask: Ask,
        begun: Begun,
    ) -> Result<String, ConnectorsError> {
        let Begun { url, pending: Pending { facts, verifier } } = begun;
        let mut all = self.0.lock();
        let mut next = all.clone();
        let mut changes = sweep(&mut next, now)?;
        let same = next.iter().find(|(_, flow)| flow.stage == Stage::Waiting && flow.ask == ask);
        let id = same.map_or_else(|| random::<16>().to_string(), |(id, _)| id.clone());
        if !next.contains_key(&id) {
            changes.extend(make_room(&mut next, &ask.principal));
        }
        let flow = Flow { ask, facts, stage: Stage::Waiting, created_at: now, expires_at: now + LIFE };
        let sealed = Sealed {
            verifier: verifier.expose_secret().to_owned(),
            authorization_url: url.expose_secret().to_owned(),
        };
        let sealed = Zeroizing::new(serde_json::to_vec(&sealed)?);
        changes.push(vault.put(&vault_key(&id), &flow.place(&id), &sealed));
        changes.push(flow.put(&id)?);
        records.write(&changes)?;
        next.insert(id.clone(), flow);
        *all = next;
        Ok(id)
    }

    /// Does something while no flow changes.
    pub(crate) fn frozen<T>(&self, work: impl FnOnce() -> T) -> T {
        let _alone = self.0.lock();
        work()
    }

    /// What the link is for, to be shown before anything happens.
    pub(crate) fn peek(&self, now: DateTime<Utc>, id: &str) -> Result<Ask, FlowError> {
        let all = self.0.lock();
        let flow = all.get(id).ok_or(FlowError::Unknown)?;
        flow.check_open(now)?;
        Ok(flow.ask.clone())
    }

    /// Whether a browser of somebody went to a server with this client, and has not come back.
    pub(crate) fn is_left(&self, who: &Principal, connector: &str, client: &str) -> bool {
        self.0.lock().values().any(|flow| {
            matches!(flow.stage, Stage::Opened(_))
                && flow.ask.principal == *who
                && flow.ask.connector_id == connector
                && flow.facts.client_id == client
        })
    }

    /// Opens the link in a browser. The first browser gets the cookie that [`Flows::claim`] wants to see again; the same
    /// browser may open the link more than once.
    pub(crate) fn start(
        &self,
        records: &dyn Records,
        vault: &Vault,
        now: DateTime<Utc>,
        id: &str,
        headers: &HeaderMap,
        secure: bool,
    ) -> Result<Started, FlowError> {
        let mut all = self.0.lock();
        let flow = all.get(id).ok_or(FlowError::Unknown)?;
        flow.check_open(now)?;
        let sealed = flow.open(records, vault, id)?;
        let value = match cookie(headers, id) {
            Some(value) if flow.is_opened_by(&value) => value,
            _ if flow.stage != Stage::Waiting => return Err(FlowError::OtherBrowser),
            _ => {
                let value = random::<32>();
                let opened = Flow { stage: Stage::Opened(hash(&value)), ..flow.clone() };
                records.write(&[opened.put(id)?]).map_err(ConnectorsError::from)?;
                all.insert(id.into(), opened);
                value
            }
        };
        Ok(Started {
            authorization_url: SecretString::from(sealed.authorization_url.as_str()),
            cookie: set_cookie(id, &value, LIFE, secure),
        })
    }

    /// Takes the flow of a browser that came back with a state; it can be taken once.
    pub(crate) fn claim(
        &self,
        records: &dyn Records,
        vault: &Vault,
        now: DateTime<Utc>,
        state: &str,
        headers: &HeaderMap,
        secure: bool,
    ) -> Result<Claimed, FlowError> {
        let wanted = state_hash(state);
        let mut all = self.0.lock();
        let found = all.iter().find(|(_, flow)| flow.facts.state_hash == wanted);
        let (id, flow) = found.map(|(id, flow)| (id.clone(), flow.clone())).ok_or(FlowError::Unknown)?;
        flow.check_open(now)?;
        if !cookie(headers, &id).is_some_and(|value| flow.is_opened_by(&value)) {
            return Err(FlowError::OtherBrowser);
        }
        let sealed = flow.open(records, vault, &id)?;
        let used = Flow { stage: Stage::Used, ..flow.clone() };
        records.write(&[used.put(&id)?, forget_secret(&id)]).map_err(ConnectorsError::from)?;
        all.insert(id.clone(), used);
        Ok(Claimed {
            clear_cookie: set_cookie(&id, "", TimeDelta::zero(), secure),
            pending: Pending { facts: flow.facts, verifier: SecretString::from(sealed.verifier.as_str()) },
            ask: flow.ask,
            id,
        })
    }
}

impl Flow {
    fn check_open(&self, now: DateTime<Utc>) -> Result<(), FlowError> {
        match self.stage {
            Stage::Used => Err(FlowError::Used),
            Stage::Expired => Err(FlowError::Expired),
            Stage::Waiting | Stage::Opened(_) if self.expires_at <= now => Err(FlowError::Expired),
            Stage::Waiting | Stage::Opened(_) => Ok(()),
        }
    }

    fn is_opened_by(&self, cookie: &str) -> bool {
        matches!(&self.stage, Stage::Opened(browser) if *browser == hash(cookie))
    }

    /// What the secrets of a flow are bound to.
    fn place(&self, id: &str) -> String {
        let Principal { organization, workspace, user } = &self.ask.principal;
        let (connector, state) = (&self.ask.connector_id, &self.facts.state_hash);
        format!("oauth flow|{organization}|{workspace}|{user}|{connector}|{id}|{state}")
    }

    fn open(&self, records: &dyn Records, vault: &Vault, id: &str) -> Result<Sealed, ConnectorsError> {
        let bytes = vault.get(records, &vault_key(id), &self.place(id))?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    fn put(&self, id: &str) -> Result<Change, ConnectorsError> {
        Ok(Change::Put { table: TABLE, key: id.into(), value: serde_json::to_vec(self)? })
    }
}

/// Destroys the secrets of what has expired, and forgets what is long over.
fn sweep(all: &mut HashMap<String, Flow>, now: DateTime<Utc>) -> Result<Vec<Change>, ConnectorsError> {
    let mut changes = Vec::new();
    all.retain(|id, flow| {
        let stays = now < flow.expires_at + MEMORY;
        if !stays {
            changes.extend(deletion(id));
        }
        stays
    });
    for (id, flow) in all {
        if flow.expires_at <= now && matches!(flow.stage, Stage::Waiting | Stage::Opened(_)) {
            flow.stage = Stage::Expired;
            changes.extend([flow.put(id)?, forget_secret(id)]);
        }
    }
    Ok(changes)
}

/// Removes flows of a principal until one more has room: those that are over first, then the oldest.
fn make_room(all: &mut HashMap<String, Flow>, principal: &Principal) -> Vec<Change> {
    let mut theirs: Vec<_> = all
        .iter()
        .filter(|(_, flow)| flow.ask.principal == *principal)
        .map(|(id, flow)| {
            (matches!(flow.stage, Stage::Waiting | Stage::Opened(_)), flow.created_at, id.clone())
        })
        .collect();
    theirs.sort();
    let surplus = (theirs.len() + 1).saturating_sub(PER_PRINCIPAL);
    theirs
        .into_iter()
        .take(surplus)
        .flat_map(|(_, _, id)| {
            all.remove(&id);
            deletion(&id)
        })
        .collect()
}

fn deletion(id: &str) -> [Change; 2] {
    [Change::Delete { table: TABLE, key: id.into() }, forget_secret(id)]
}

fn forget_secret(id: &str) -> Change {
    Change::Delete { table: vault::TABLE, key: vault_key(id) }
}

fn vault_key(id: &str) -> String {
    format!("{TABLE}/{id}")
}

fn hash(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

/// Random bytes as text that may stand in a path or a cookie.
fn random<const N: usize>() -> Zeroizing<String> {
    let bytes: Zeroizing<[u8; N]> = Zeroizing::new(rand::rng().random());
    Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes))
}

/// Flows in one browser do not disturb each other. The name does not tell the id.
fn cookie_name(id: &str) -> String {
    format!("airlock_oauth_{}", &hash(id)[..8])
}

/// The value of a flow's cookie in a request.
fn cookie(headers: &HeaderMap, id: &str) -> Option<Zeroizing<String>> {
    let name = cookie_name(id);
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(other, _)| *other == name).map(|(_, value)| Zeroizing::new(value.to_owned()))
}

/// Lax, because the browser comes back from another site.
fn set_cookie(id: &str, value: &str, life: TimeDelta, secure: bool) -> HeaderValue {
    let (name, age) = (cookie_name(id), life.num_seconds());
    let secure = if secure { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path={PATH}; Max-Age={age}; HttpOnly; SameSite=Lax{secure}");
    // All of it is of the alphabets above.
    let mut header = HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""));
    header.set_sensitive(true);
    header
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use airlock_engine::{OrganizationId, UserId, WorkspaceId};
    use airlock_store::SqliteStore;
    use serde_json::json;

    use super::*;
    use crate::{
        Keyring, MasterKey,
        oauth::{Client, Server, begin},
    };

    struct World {
        folder: tempfile::TempDir,
        records: Arc<SqliteStore>,
        vault: Vault,
        flows: Flows,
    }

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + minute * 60, 0).expect("a time")
    }

    fn ask(user: &str, connector: &str) -> Ask {
        Ask {
            principal: Principal {
                user: UserId::new(user),
                workspace: WorkspaceId::new("w"),
                organization: OrganizationId::new("o"),
            },
            connector_id: connector.into(),
            credential: FlowCredential { scope: Scope::User, name: "mine".into(), title: None },
            app_return_url: None,
        }
    }

    fn begun() -> (String, String, Begun) {
        let metadata = json!({
            "issuer": "https://as.example", "token_endpoint": "https://as.example/token",
            "authorization_endpoint": "https://as.example/authorize",
        });
        let server = Server::provided(&metadata, Default::default()).expect("valid metadata");
        let redirect = Url::parse("https://airlock.example/cb").expect("an address");
        let begun = begin(&server, &Client::public("c"), &redirect, &[]).expect("an address");
        let url = Url::parse(begun.url.expose_secret()).expect("an address");
        let state = url.query_pairs().find(|(name, _)| name == "state").expect("a state").1.into_owned();
        (state, begun.pending.verifier.expose_secret().to_owned(), begun)
    }

    /// The cookies that a browser sends back.
    fn browser(set: &[&HeaderValue]) -> HeaderMap {
        let pairs = set.iter().map(|set| {
            let text = set.to_str().expect("text");
            text.split(';').next().expect("a pair").to_owned()
        });
        let pairs: Vec<String> = pairs.chain(["other=1".to_owned()]).collect();
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, pairs.join("; ").parse().expect("a header"));
        headers
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let records = SqliteStore::open(folder.path(), &[1; 32]).expect("a store");
            let flows = Flows::open(&*records).expect("flows");
            let ring = tempfile::tempdir().expect("a folder");
            let keyring = Keyring::open(ring.path(), &MasterKey::from_bytes([2; 32]), None).expect("is made");
            let vault = Vault::new(std::sync::Arc::new(keyring));
            Self { folder, records, vault, flows }
        }

        /// The same data folder in another process.
        fn restart(self) -> Self {
            let Self { folder, records, vault, .. } = self;
            drop(records);
            let records = SqliteStore::open(folder.path(), &[1; 32]).expect("a store");
            let flows = Flows::open(&*records).expect("flows");
            Self { folder, records, vault, flows }
        }

        fn create(&self, minute: i64, ask: Ask) -> (String, String, String) {
            let (state, verifier, begun) = begun();
            let id = self.flows.create(&*self.records, &self.vault, at(minute), ask, begun).expect("a flow");
            (id, state, verifier)
        }

        fn start(&self, minute: i64, id: &str, headers: &HeaderMap) -> Result<Started, FlowError> {
            self.flows.start(&*self.records, &self.vault, at(minute), id, headers, true)
        }

        fn claim(&self, minute: i64, state: &str, headers: &HeaderMap) -> Result<Claimed, FlowError> {
            self.flows.claim(&*self.records, &self.vault, at(minute), state, headers, true)
        }

        fn rows(&self, table: &str) -> usize {
            self.records.scan(table, "", None, usize::MAX).expect("rows").len()
        }
    }

    #[test]
    fn row_12_a_flow_goes_on_after_a_restart_in_the_browser_that_opened_it() {
        let world = World::new();
        let (id, state, verifier) = world.create(0, ask("ann", "c1"));
        let started = world.start(1, &id, &HeaderMap::new()).expect("a start");
        assert!(started.authorization_url.expose_secret().contains(&state));
        let text = started.cookie.to_str().expect("text");
        assert!(text.starts_with(&cookie_name(&id)) && !text.contains(&id), "{text}");
        assert!(
            text.ends_with("; Path=/v1/airlock/oauth; Max-Age=600; HttpOnly; SameSite=Lax; Secure"),
            "{text}"
        );
        let world = world.restart();
        let again = world.start(2, &id, &browser(&[&started.cookie])).expect("the same browser");
        assert_eq!(again.cookie, started.cookie);
        let claimed = world.claim(9, &state, &browser(&[&started.cookie])).expect("a flow");
        assert_eq!((claimed.id, claimed.ask), (id, ask("ann", "c1")));
        assert_eq!(claimed.pending.verifier.expose_secret(), verifier);
        assert!(
            claimed.clear_cookie.to_str().expect("text").contains("=; Path=/v1/airlock/oauth; Max-Age=0;")
        );
        assert_eq!(world.rows(vault::TABLE), 0);
    }

    #[test]
    fn row_12_a_state_is_good_once_for_ten_minutes_and_in_one_browser() {
        let world = World::new();
        let (id, state, _) = world.create(0, ask("ann", "c1"));
        assert!(matches!(world.claim(0, &state, &HeaderMap::new()), Err(FlowError::OtherBrowser)));
        let started = world.start(0, &id, &HeaderMap::new()).expect("a start");
        let mine = browser(&[&started.cookie]);
        // Another profile opens the same link, or is sent the address that the browser comes back with.
        let other_flow = world.create(0, ask("eve", "c1"));
        let theirs = world.start(0, &other_flow.0, &HeaderMap::new()).expect("a start");
        for other in [HeaderMap::new(), browser(&[&theirs.cookie])] {
            assert!(matches!(world.start(1, &id, &other), Err(FlowError::OtherBrowser)));
            assert!(matches!(world.claim(1, &state, &other), Err(FlowError::OtherBrowser)));
        }
        assert!(matches!(world.claim(1, "guessed", &mine), Err(FlowError::Unknown)));
        assert!(matches!(world.start(1, "guessed", &mine), Err(FlowError::Unknown)));
        assert!(matches!(world.claim(10, &state, &mine), Err(FlowError::Expired)));
        assert!(matches!(world.start(10, &id, &mine), Err(FlowError::Expired)));
        world.claim(9, &state, &mine).expect("a flow");
        assert!(matches!(world.claim(9, &state, &mine), Err(FlowError::Used)));
        assert!(matches!(world.start(9, &id, &mine), Err(FlowError::Used)));
        assert!(matches!(world.flows.peek(at(9), &id), Err(FlowError::Used)));
        let world = world.restart();
        assert!(matches!(world.claim(9, &state, &mine), Err(FlowError::Used)));
        assert_eq!(
            world.claim(9, &other_flow.1, &browser(&[&theirs.cookie])).expect("a flow").id,
            other_flow.0
        );
    }

    #[test]
    fn row_12_two_flows_in_one_browser_do_not_disturb_each_other() {
        let world = World::new();
        let (first, second) = (world.create(0, ask("ann", "c1")), world.create(0, ask("ann", "c2")));
        let one = world.start(0, &first.0, &HeaderMap::new()).expect("a start");
        let two = world.start(0, &second.0, &browser(&[&one.cookie])).expect("a start");
        let both = browser(&[&one.cookie, &two.cookie]);
        assert_eq!(world.claim(1, &second.1, &both).expect("a flow").ask.connector_id, "c2");
        assert_eq!(world.claim(1, &first.1, &both).expect("a flow").ask.connector_id, "c1");
    }

    #[test]
    fn row_17_neither_state_nor_verifier_nor_cookie_is_stored_in_the_open() {
        let world = World::new();
        let (id, state, verifier) = world.create(0, ask("ann", "c1"));
        let started = world.start(0, &id, &HeaderMap::new()).expect("a start");
        let cookie = cookie(&browser(&[&started.cookie]), &id).expect("a cookie");
        let mut searched = 0;
        for table in [TABLE, vault::TABLE] {
            for (_, value) in world.records.scan(table, "", None, usize::MAX).expect("rows") {
                let text = String::from_utf8_lossy(&value);
                assert!(
                    [&state, &verifier, &*cookie].iter().all(|secret| !text.contains(secret.as_str())),
                    "{text}"
                );
                searched += 1;
            }
        }
        assert_eq!(searched, 2);
    }

    #[test]
    fn row_24_the_secrets_of_a_flow_open_for_no_other() {
        let world = World::new();
        let (ann, eve) = (world.create(0, ask("ann", "c1")), world.create(0, ask("eve", "c1")));
        let value = world.records.get(vault::TABLE, &vault_key(&ann.0)).expect("a read").expect("a row");
        let swap = Change::Put { table: vault::TABLE, key: vault_key(&eve.0), value };
        world.records.write(&[swap]).expect("a write");
        assert!(matches!(world.start(0, &eve.0, &HeaderMap::new()), Err(FlowError::Store(_))));
    }

    #[test]
    fn who_asks_again_gets_the_same_link_with_new_time_until_somebody_opens_it() {
        let world = World::new();
        let (id, old_state, _) = world.create(0, ask("ann", "c1"));
        let (again, state, _) = world.create(8, ask("ann", "c1"));
        assert_eq!(again, id);
        let elsewhere = Ask { app_return_url: Url::parse("https://app.example/").ok(), ..ask("ann", "c1") };
        assert_ne!(world.create(8, elsewhere).0, id);
        let started = world.start(12, &id, &HeaderMap::new()).expect("a start");
        assert!(started.authorization_url.expose_secret().contains(&state));
        assert_ne!(world.create(12, ask("ann", "c1")).0, id);
        let mine = browser(&[&started.cookie]);
        assert!(matches!(world.claim(12, &old_state, &mine), Err(FlowError::Unknown)));
        assert_eq!(world.claim(12, &state, &mine).expect("a flow").id, id);
    }

    #[test]
    fn flows_are_few_and_do_not_stay() {
        let world = World::new();
        let (eve, _, _) = world.create(0, ask("eve", "c"));
        let ids: Vec<String> = (0..25).map(|n| world.create(n / 5, ask("ann", &n.to_string())).0).collect();
        assert_eq!((world.rows(TABLE), world.rows(vault::TABLE)), (21, 21));
        let known = |id: &str, minute| world.flows.peek(at(minute), id);
        assert!(ids[..5].iter().all(|id| matches!(known(id, 5), Err(FlowError::Unknown))));
        assert!(ids[5..].iter().all(|id| known(id, 5).is_ok()));
        assert!(known(&eve, 5).is_ok());
        // The next one to be created destroys the secrets of what has expired, and an hour later all of it.
        world.create(20, ask("bob", "c"));
        assert_eq!((world.rows(TABLE), world.rows(vault::TABLE)), (22, 1));
        assert!(matches!(known(&eve, 20), Err(FlowError::Expired)));
        world.create(90, ask("bob", "c"));
        assert_eq!((world.rows(TABLE), world.rows(vault::TABLE)), (1, 1));
        assert!(matches!(known(&eve, 90), Err(FlowError::Unknown)));
    }
}
