//! Backup and restore of a data folder.
//!
//! A backup is a folder with a consistent copy of the database, the large payloads that it refers to, the components that
//! executions are pinned to, and a manifest, which is written last: without it the backup is not whole. It can be taken
//! from any process while the daemon writes. It never holds the master key, so what is sealed stays sealed.
//!
//! The database is read in one read transaction of SQLite's write-ahead log, piece by piece with pauses: the daemon
//! writes on meanwhile, and the copy is the state of the moment when it began.

mod manifest;

use std::{
    collections::HashSet,
    fmt,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Component, Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rusqlite::{
    Connection, OpenFlags,
    backup::{Backup, StepResult},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::manifest::{FORMAT, Manifest};
pub use self::manifest::{Trust, admit};
use crate::{
    layout::LAYOUT,
    objects::{FOLDER, private_folder},
    versions,
};

const DATABASE: &str = "airlock.db";
const COMPONENTS: &str = "components";
const AUDIT: &str = "audit";
/// The keyring, and the one that takes its place while the master key changes.
const KEYRING_FILES: [&str; 2] = ["keyring", "keyring.next"];

/// What may be in a folder that a backup is restored to.
const BESIDES: [&str; 2] = ["lock", "master.key"];

/// Pages that are copied in one piece: 2 MB.
const PIECE: i32 = 512;
/// The pause between two pieces at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupReport {
    /// Version of the manifest.
    pub format: u32,
    /// Version of the database's layout.
    pub layout: i64,
    /// The moment whose state it is, in milliseconds since the Unix epoch.
    pub taken_at_ms: u64,
    /// Runs, open and ended.
    pub runs: u64,
    /// Records in histories.
    pub records: u64,
    /// Large payloads.
    pub objects: u64,
    /// Components.
    pub components: u64,
    /// Bytes of all files together.
    pub bytes: u64,
    /// SHA-256 of the database, in hexadecimal.
    pub database_sha256: String,
    /// The object store that keeps the large payloads, if that is not the data folder: they are not part of the backup.
    pub object_store: Option<String>,
    /// Digests of components that open executions are pinned to and that were not in the data folder.
    pub missing_components: Vec<String>,
}

impl fmt::Display for BackupReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} runs with {} records, {} large payloads, {} components, {} bytes",
            self.runs, self.records, self.objects, self.components, self.bytes
        )?;
        if let Some(url) = &self.object_store {
            writeln!(f, "Large payloads stay in {url}: they are not part of the backup, keep them there.")?;
        }
        if !self.missing_components.is_empty() {
            writeln!(
                f,
                "Open executions are pinned to components that were not in the data folder: {}.",
                self.missing_components.join(", ")
            )?;
        }
        f.write_str(
            "The master key is not part of the backup, and without it nothing sealed opens: keep master.key of the data \
             folder, or wherever --master-key-file or AIRLOCK_MASTER_KEY has it from, in another safe place.",
        )
    }
}

/// A backup could not be taken, is not whole, or could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// No database is there.
    #[error("{} is not a data folder of airlock: it holds no {DATABASE}", .0.display())]
    NoData(PathBuf),
    /// The database has another layout.
    #[error(
        "the database has layout {found} and this airlock knows {LAYOUT}: use the version of airlock that belongs to it"
    )]
    Layout {
        /// Its layout.
        found: i64,
    },
    /// Something is there already.
    #[error("{} is not empty: name a folder that does not exist or is empty", .0.display())]
    NotEmpty(PathBuf),
    /// A daemon runs on the folder.
    #[error("a daemon is using {}: stop it, or name another folder", .0.display())]
    InUse(PathBuf),
    /// No manifest is there.
    #[error("{} is not a whole backup: it holds no backup.json, which is written last", .0.display())]
    NoManifest(PathBuf),
    /// The manifest is not the one that was written, or another key made its seal.
    #[error(
        "the seal of the backup's manifest does not fit: the backup was edited, or it is from a data folder with another \
         master key. Do not restore it before you know which"
    )]
    Seal,
    /// There is no seal.
    #[error(
        "the backup has no seal, because an airlock of before took it: whether it was edited cannot be seen. If you trust \
         the place where it was kept, say --unsealed"
    )]
    Earlier,
    /// It is not what it was.
    #[error("the backup is damaged: {0}")]
    Damaged(String),
    /// A file could not be read or written.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        problem: io::Error,
    },
    /// SQLite says no.
    #[error("the database cannot be copied or read: {0}")]
    Database(#[from] rusqlite::Error),
}

/// Takes a backup of a data folder into a new or empty folder. The daemon may run. `key` seals the manifest: it must not be
/// derived from anything that is in the backup.
pub fn backup(data: &Path, destination: &Path, key: &[u8; 32]) -> Result<BackupReport, BackupError> {
    let source = data.join(DATABASE);
    if !source.is_file() {
        return Err(BackupError::NoData(data.into()));
    }
    empty_folder(destination)?;
    // What the copy of the database refers to was there before it was taken or came meanwhile: both are looked at.
    let pass = || -> Result<(), BackupError> {
        copy_tree(&data.join(FOLDER), &destination.join(FOLDER))?;
        copy_tree(&data.join(COMPONENTS), &destination.join(COMPONENTS))
    };
    pass()?;
    let copy = destination.join(DATABASE);
    let taken_at_ms = loop {
        // The keyring changes when the master key is: then the database is taken again, so that the two fit.
        let keyring = KEYRING_FILES.map(|name| fs::read(data.join(name)).ok());
        // The versions first: records that are newer than they say are right, older ones are not.
        let versions = fs::read(data.join(versions::FILE)).ok();
        let taken_at_ms = copy_database(&source, &copy)?;
        if KEYRING_FILES.map(|name| fs::read(data.join(name)).ok()) != keyring {
            fs::remove_file(&copy).map_err(at(&copy))?;
            continue;
        }
        for (name, bytes) in KEYRING_FILES.iter().zip(keyring) {
            if let Some(bytes) = bytes {
                write(&destination.join(name), &bytes)?;
            }
        }
        if let Some(bytes) = versions {
            write(&destination.join(versions::FILE), &bytes)?;
        }
        break taken_at_ms;
    };
    copy_tree(&data.join(AUDIT), &destination.join(AUDIT))?;
    pass()?;
    let report = describe(destination, taken_at_ms, sha256(&copy)?)?;
    if report.object_store.is_none() {
        keep_only(&destination.join(FOLDER), &objects(&reader(&copy)?)?)?;
    }
    let report = BackupReport { bytes: size(destination)?, ..report };
    Manifest::write(destination, &report, key)?;
    sync_folder(destination)?;
    Ok(report)
}

/// Looks at a backup: it is the one that was sealed, every file that belongs to it is there and is what it was, and nothing
/// else is there.
pub fn verify(backup: &Path, trust: Trust<'_>) -> Result<BackupReport, BackupError> {
    Ok(whole(backup, trust)?.report)
}

fn whole(backup: &Path, trust: Trust<'_>) -> Result<Manifest, BackupError> {
    let manifest = Manifest::read(backup, trust)?;
    manifest.check(backup, &[])?;
    let report = &manifest.report;
    if sha256(&backup.join(DATABASE))? != report.database_sha256 {
        return Err(BackupError::Damaged(format!("{DATABASE} was changed after the backup was taken")));
    }
    let found = describe(backup, report.taken_at_ms, report.database_sha256.clone())?;
    let database = reader(&backup.join(DATABASE))?;
    let integrity: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    if integrity != "ok" {
        return Err(BackupError::Damaged(format!("SQLite says of {DATABASE}: {integrity}")));
    }
    if found.components != report.components {
        let problem =
            format!("{} components were taken and {} are there", report.components, found.components);
        return Err(BackupError::Damaged(problem));
    }
    let components = backup.join(COMPONENTS);
    for name in names(&components)? {
        let path = components.join(&name);
        let digest = name.strip_suffix(".wasm");
        if digest.is_some_and(|digest| sha256(&path).is_ok_and(|found| found != digest)) {
            return Err(BackupError::Damaged(format!("{COMPONENTS}/{name} was changed")));
        }
    }
    Ok(manifest)
}

/// Puts a backup into a new or empty folder, on which a daemon can be started then, with the master key of before, which may
/// be there already.
pub fn restore(backup: &Path, data: &Path, trust: Trust<'_>) -> Result<BackupReport, BackupError> {
    let manifest = whole(backup, trust)?;
    private_folder(data).map_err(at(data))?;
    let path = data.join("lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(at(&path))?;
    lock.try_lock().map_err(|_| BackupError::InUse(data.into()))?;
    if names(data)?.iter().any(|name| !BESIDES.contains(&name.as_str())) {
        return Err(BackupError::NotEmpty(data.into()));
    }
    copy_tree(&backup.join(FOLDER), &data.join(FOLDER))?;
    copy_tree(&backup.join(COMPONENTS), &data.join(COMPONENTS))?;
    copy_tree(&backup.join(AUDIT), &data.join(AUDIT))?;
    for name in KEYRING_FILES.into_iter().chain([versions::FILE]) {
        if backup.join(name).exists() {
            copy_file(&backup.join(name), &data.join(name))?;
        }
    }
    // Last, and under its name only when it is whole: a restore that broke off is no data folder.
    let (from, part, to) = (backup.join(DATABASE), data.join("airlock.db.part"), data.join(DATABASE));
    copy_file(&from, &part)?;
    if let Trust::Later = trust {
        manifest.leave(data)?;
    }
    if sha256(&part)? != manifest.report.database_sha256 {
        return Err(BackupError::Damaged(format!("{DATABASE} was not copied whole")));
    }
    fs::rename(&part, &to).map_err(at(&to))?;
    // What is there now is what was sealed, also if somebody wrote to the backup meanwhile.
    if let Err(error) = manifest.check(data, &[&BESIDES[..], &["restored.json"]].concat()) {
        fs::rename(&to, &part).map_err(at(&part))?;
        return Err(error);
    }
    sync_folder(data)?;
    Ok(manifest.report)
}

/// Copies the state of this moment, and says which moment it is.
fn copy_database(source: &Path, destination: &Path) -> Result<u64, BackupError> {
    let from = Connection::open_with_flags(
        source,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    from.busy_timeout(Duration::from_secs(30))?;
    // The read transaction holds the state. Without it every commit of the daemon would make the copy begin again.
    from.execute_batch("BEGIN")?;
    let found: i64 = from.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found != LAYOUT {
        return Err(BackupError::Layout { found });
    }
    from.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    let taken_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut to = Connection::open(destination)?;
    // A copy that broke off is thrown away, and what is whole is synced below.
    to.pragma_update(None, "journal_mode", "OFF")?;
    to.pragma_update(None, "synchronous", "OFF")?;
    {
        let copy = Backup::new(&from, &mut to)?;
        let file = File::open(destination).map_err(at(destination))?;
        loop {
            let began = Instant::now();
            match copy.step(PIECE)? {
                StepResult::Done => break,
                StepResult::More => {
                    // All at once at the end would hold up the syncs of the daemon.
                    file.sync_data().map_err(at(destination))?;
                    // Half of the time belongs to the daemon.
                    std::thread::sleep(began.elapsed().min(LONGEST_PAUSE));
                }
                // Somebody holds a lock for a moment.
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
    from.execute_batch("COMMIT")?;
    to.close().map_err(|(_, error)| error)?;
    File::open(destination).and_then(|file| file.sync_all()).map_err(at(destination))?;
    Ok(u64::try_from(taken_at.as_millis()).unwrap_or(u64::MAX))
}

/// What a folder with a copied database holds. Fails if a large payload is missing or is not what it was.
fn describe(folder: &Path, taken_at_ms: u64, database_sha256: String) -> Result<BackupReport, BackupError> {
    let copy = folder.join(DATABASE);
    let database = reader(&copy)?;
    let layout = database.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if layout != LAYOUT {
        return Err(BackupError::Layout { found: layout });
    }
    let count = |table: &str| -> rusqlite::Result<u64> {
        let sql = format!("SELECT count(*) FROM {table}");
        database.query_row(&sql, [], |row| row.get::<_, i64>(0)).map(|count| count as u64)
    };
    let location: String = database.query_row("SELECT location FROM object_store", [], |row| row.get(0))?;
    let wanted = objects(&database)?;
    if location.is_empty() {
        for object in &wanted {
            let path = object.below(&folder.join(FOLDER))?;
            let found = fs::metadata(&path).map(|file| file.len());
            let whole = found.is_ok_and(|length| length == object.length)
                && sha256(&path)? == hex::encode(&object.sha256);
            if !whole {
                let problem = format!("the large payload {} is missing or not what it was", object.path);
                return Err(BackupError::Damaged(problem));
            }
        }
    }
    let components: HashSet<String> = names(&folder.join(COMPONENTS))?
        .into_iter()
        .filter_map(|name| Some(name.strip_suffix(".wasm")?.to_owned()))
        .collect();
    let mut missing_components = database
        .prepare("SELECT DISTINCT digest FROM executions WHERE status = 0")?
        .query_map([], |row| row.get::<_, Vec<u8>>(0).map(hex::encode))?
        .collect::<rusqlite::Result<Vec<String>>>()?;
    missing_components.retain(|digest| !components.contains(digest));
    Ok(BackupReport {
        format: FORMAT,
        layout,
        taken_at_ms,
        runs: count("executions")?,
        records: count("journal")?,
        objects: wanted.len() as u64,
        components: components.len() as u64,
        bytes: 0,
        database_sha256,
        object_store: (!location.is_empty()).then_some(location),
        missing_components,
    })
}

/// A database that nobody writes to. Nothing is made beside it.
fn reader(path: &Path) -> Result<Connection, BackupError> {
    let absolute = fs::canonicalize(path).map_err(at(path))?;
    let mut url = url::Url::from_file_path(&absolute)
        .map_err(|()| BackupError::Damaged(format!("{} has no URL", path.display())))?;
    url.set_query(Some("immutable=1"));
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Ok(Connection::open_with_flags(url.as_str(), flags)?)
}

/// A large payload as the database knows it.
struct Object {
    path: String,
    length: u64,
    sha256: Vec<u8>,
}

impl Object {
    /// Its file; a path that leaves the folder is nothing that airlock wrote.
    fn below(&self, folder: &Path) -> Result<PathBuf, BackupError> {
        let path = Path::new(&self.path);
        if path.components().all(|part| matches!(part, Component::Normal(_))) {
            Ok(folder.join(path))
        } else {
            Err(BackupError::Damaged(format!("the large payload '{}' has no valid path", self.path)))
        }
    }
}

fn objects(database: &Connection) -> Result<Vec<Object>, BackupError> {
    let mut statement = database.prepare("SELECT path, length, sha256 FROM objects")?;
    let object = |row: &rusqlite::Row<'_>| {
        Ok(Object { path: row.get(0)?, length: row.get::<_, i64>(1)? as u64, sha256: row.get(2)? })
    };
    Ok(statement.query_map([], object)?.collect::<rusqlite::Result<Vec<_>>>()?)
}

/// Removes what the copy of the database does not refer to.
fn keep_only(folder: &Path, wanted: &[Object]) -> Result<(), BackupError> {
    let wanted = wanted.iter().map(|object| object.below(folder)).collect::<Result<HashSet<_>, _>>()?;
    for file in files(folder)? {
        if !wanted.contains(&file) {
            fs::remove_file(&file).map_err(at(&file))?;
        }
    }
    Ok(())
}

/// Copies files that are not there yet, below a folder that need not exist.
fn copy_tree(from: &Path, to: &Path) -> Result<(), BackupError> {
    if !from.is_dir() {
        return Ok(());
    }
    private_folder(to).map_err(at(to))?;
    for name in names(from)? {
        // Files that are being written have such names.
        if name.contains('#') || name.starts_with('.') || name.ends_with(".part") {
            continue;
        }
        let (source, target) = (from.join(&name), to.join(&name));
        let there = match fs::metadata(&source) {
            Ok(metadata) if metadata.is_dir() => {
                copy_tree(&source, &target)?;
                continue;
            }
            Ok(metadata) => {
                fs::metadata(&target).is_ok_and(|copied| copied.len() == metadata.len())
                    && !name.ends_with(".name")
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(problem) => return Err(BackupError::File { path: source, problem }),
        };
        if !there {
            match copy_file(&source, &target) {
                // It was removed meanwhile, so nothing needs it.
                Err(BackupError::File { path, problem })
                    if path == source && problem.kind() == io::ErrorKind::NotFound => {}
                copied => copied?,
            }
        }
    }
    sync_folder(to)
}

fn copy_file(from: &Path, to: &Path) -> Result<(), BackupError> {
    let mut source = File::open(from).map_err(at(from))?;
    let mut target = File::create(to).map_err(at(to))?;
    io::copy(&mut source, &mut target).map_err(at(to))?;
    let permissions = source.metadata().map_err(at(from))?.permissions();
    target.set_permissions(permissions).map_err(at(to))?;
    target.sync_all().map_err(at(to))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), BackupError> {
    let mut file = File::create_new(path).map_err(at(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at(path))
}

/// Makes a folder if it is not there, for its owner alone; refuses one with something in it.
fn empty_folder(path: &Path) -> Result<(), BackupError> {
    if !names(path)?.is_empty() {
        return Err(BackupError::NotEmpty(path.into()));
    }
    private_folder(path).map_err(at(path))
}

fn sync_folder(path: &Path) -> Result<(), BackupError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(at(path))
}

/// Names in a folder; none if there is no folder.
fn names(folder: &Path) -> Result<Vec<String>, BackupError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(at(folder))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(at(folder))?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// All files below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let mut files = Vec::new();
    for name in names(folder)? {
        let path = folder.join(name);
        if path.is_dir() {
            files.extend(self::files(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

fn size(folder: &Path) -> Result<u64, BackupError> {
    let mut bytes = 0;
    for file in files(folder)? {
        bytes += fs::metadata(&file).map_err(at(&file))?.len();
    }
    Ok(bytes)
}

fn sha256(path: &Path) -> Result<String, BackupError> {
    let mut file = File::open(path).map_err(at(path))?;
    let (mut hash, mut piece) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut piece).map_err(at(path))? {
            0 => return Ok(hex::encode(hash.finalize())),
            read => hash.update(&piece[..read]),
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    |problem| BackupError::File { path, problem }
}
