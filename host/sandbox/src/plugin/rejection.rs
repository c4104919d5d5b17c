//! Why a file in the plugin folder cannot be used. Each message says what to do.

/// How a plugin is built, for messages.
const BUILD: &str = "build the crate with `cargo build --release --target wasm32-wasip2` and the airlock SDK (`airlock plugin new NAME` makes one)";

/// The file is not taken up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Rejection {
    /// It cannot be read.
    #[error("the file cannot be read: {0}; check its permissions")]
    Unreadable(String),
    /// It is larger than the limit.
    #[error("the file has {bytes} bytes; the limit is {limit}: build it in release mode and strip it")]
    TooLarge { bytes: u64, limit: u64 },
    /// It has no WebAssembly header.
    #[error("it is not WebAssembly; {BUILD}")]
    NotWasm,
    /// It is a core module.
    #[error(
        "it is a core WebAssembly module, not a component; {BUILD}, not for wasm32-unknown-unknown or wasm32-wasip1"
    )]
    CoreModule,
    /// It is a component with a defect: cut off, damaged, or using features that are off.
    #[error(
        "the component is not valid: {0}; if the file was being copied, it is read again when that ends, else build it anew"
    )]
    Malformed(String),
    /// It does not export what a plugin must.
    #[error("it lacks the export{} {}: it is not an airlock plugin; {BUILD}", plural(.0), .0.join(", "))]
    MissingExports(Vec<String>),
    /// It was built for another version of the interface.
    #[error("it is built for {found}, and this airlock has {wanted}; build it with the SDK of this version")]
    OtherVersion { found: String, wanted: String },
    /// It imports what airlock does not give.
    #[error("it asks for the import{} {}, which a plugin is not given: WASI 0.2 without wasi:http and the interfaces of airlock:plugin are; calls to services go through a connector (`call-tool`)", plural(.0), .0.join(", "))]
    MissingImports(Vec<String>),
    /// Names are right and types are not.
    #[error(
        "its imports or exports do not have the types of this airlock: {0}; build it with the SDK of this version"
    )]
    WrongTypes(String),
    /// More than the sandbox has for one guest.
    #[error("it needs {0}; build it smaller: no setting raises that")]
    TooDemanding(String),
    /// Compiling it would take too long, or did.
    #[error(
        "it has {0}: it is not compiled. Split large functions, build it in release mode, leave out what is not used"
    )]
    TooIntricate(String),
    /// `describe` went wrong.
    #[error(
        "it cannot say what it holds: {0}; `definitions.describe` must answer at once and without calling the host"
    )]
    Describe(String),
    /// What `describe` returned breaks a rule.
    #[error("{0}")]
    Definition(String),
    /// Another file serves a workflow of this name.
    #[error(
        "the workflow {workflow:?} is served by {other}.wasm already: rename it, or remove one of the two files"
    )]
    Duplicate { workflow: String, other: String },
    /// The policy file is wrong.
    #[error("the policy file {file} is wrong: {reason}")]
    Policy { file: String, reason: String },
    /// Not the plugin's fault.
    #[error("it cannot be taken up now: {0}; it is tried again when the file or its policy changes")]
    Host(String),
}

fn plural(names: &[String]) -> &'static str {
    if names.len() == 1 { "" } else { "s" }
}

impl Rejection {
    /// A file that is still being written looks like this.
    pub(crate) fn may_be_unfinished(&self) -> bool {
        matches!(self, Self::Unreadable(_) | Self::NotWasm | Self::Malformed(_))
    }
}
