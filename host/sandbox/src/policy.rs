//! What the operator grants to a plugin: `NAME.toml` beside `NAME.wasm`. Without the file, nothing.
//!
//! ```toml
//! [env]
//! REGION = "eu-1"
//!
//! [[dirs]]
//! host = "/srv/reports"
//! guest = "/reports"
//! mode = "rw"
//!
//! [limits]
//! memory_mb = 512
//! activity_cpu_ms = 60000
//! ```
//!
//! The grants are for activities; a workflow has none whatever the file says. The limits hold for both.
//!
//! A file may hold what is not for everybody, and what is wrong with it is told to every member: a mistake is told by line,
//! column and kind, in words of this file, never with what stands there.

use std::{borrow::Cow, ops::Range, path::PathBuf, time::Duration};

use airlock_engine::problem::nearest;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::config::Limits;

/// The grants and limits of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) env: Vec<(String, String)>,
    pub(crate) dirs: Vec<Dir>,
    pub(crate) memory_bytes: usize,
    pub(crate) activity_cpu: Duration,
}

/// A folder of the host that activities see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dir {
    /// Where it is; absolute.
    pub(crate) host: PathBuf,
    /// Where the guest sees it; absolute.
    pub(crate) guest: String,
    pub(crate) mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    ReadOnly,
    ReadWrite,
}

impl Policy {
    /// What a plugin without a policy file has.
    pub(crate) fn none(limits: &Limits) -> Self {
        Self {
            env: Vec::new(),
            dirs: Vec::new(),
            memory_bytes: limits.memory_bytes,
            activity_cpu: limits.activity_cpu,
        }
    }

    /// Reads the text of a policy file. The error says what is wrong and where, without the file's name and text.
    pub(crate) fn parse(text: &str, limits: &Limits) -> Result<Self, String> {
        let reader = Reader { text };
        // The message of the parser is of its own words and of what TOML expects there.
        let file = DeTable::parse(text)
            .map_err(|error| reader.wrong(error.span().unwrap_or(0..0), error.message()))?;
        let mut policy = Self::none(limits);
        for (key, value) in file.get_ref() {
            match key.get_ref().as_ref() {
                "env" => policy.env = reader.env(value)?,
                "dirs" => policy.dirs = reader.dirs(value)?,
                "limits" => reader.limits(value, limits, &mut policy)?,
                _ => return Err(reader.unknown(key, &["env", "dirs", "limits"])),
            }
        }
        Ok(policy)
    }
}

type Value<'a> = Spanned<DeValue<'a>>;

/// Reads the parts of one file.
struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    /// What is wrong, behind the place where it is.
    fn wrong(&self, span: Range<usize>, what: impl AsRef<str>) -> String {
        let before = &self.text[..self.text.floor_char_boundary(span.start)];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        format!("line {line}, column {column}: {}", what.as_ref())
    }

    /// A key that has no meaning where it stands. Of the file itself nothing is told, so of the key only which one it is like.
    fn unknown(&self, key: &Spanned<Cow<'_, str>>, known: &[&str]) -> String {
        let meant = nearest(key.get_ref(), known.iter().copied());
        let meant = meant.map_or_else(|| "; here".to_owned(), |meant| format!(": '{meant}' is meant? Here"));
        let all = match known {
            [all @ .., last] => format!("{} and {last}", all.join(", ")),
            [] => String::new(),
        };
        self.wrong(key.span(), format!("there is no such key{meant} are {all}"))
    }

    fn expected(&self, value: &Value<'_>, what: &str, wanted: &str) -> String {
        self.wrong(
            value.span(),
            format!("{what} is of the type {}; it must be {wanted}", value.get_ref().type_str()),
        )
    }

    fn table<'t, 'v>(&self, value: &'t Value<'v>, what: &str) -> Result<&'t DeTable<'v>, String> {
        value.get_ref().as_table().ok_or_else(|| self.expected(value, what, "a table"))
    }

    fn string<'t>(&self, value: &'t Value<'_>, what: &str) -> Result<&'t str, String> {
        value.get_ref().as_str().ok_or_else(|| self.expected(value, what, "a string"))
    }

    /// A whole number from 1 to `most`.
    fn number(&self, value: &Value<'_>, what: &str, most: u64) -> Result<u64, String> {
        let Some(integer) = value.get_ref().as_integer() else {
            return Err(self.expected(value, what, "an integer"));
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        number.filter(|number| (1..=most).contains(number)).ok_or_else(|| {
            let bounds = if most == u64::MAX { "at least 1".to_owned() } else { format!("1 to {most}") };
            self.wrong(value.span(), format!("{what} is out of its bounds; it can be {bounds}"))
        })
    }

    fn env(&self, value: &Value<'_>) -> Result<Vec<(String, String)>, String> {
        let mut env = Vec::new();
        for (name, value) in self.table(value, "env")? {
            let text = self.string(value, "the value of a variable of env")?;
            let key = name.get_ref();
            if key.is_empty() || key.contains(['=', '\0']) || text.contains('\0') {
                let what = "a variable of env: a name has no '=' and neither it nor its value has a NUL byte";
                return Err(self.wrong(name.span(), what));
            }
            env.push((key.as_ref().to_owned(), text.to_owned()));
        }
        Ok(env)
    }

    fn dirs(&self, value: &Value<'_>) -> Result<Vec<Dir>, String> {
        let Some(entries) = value.get_ref().as_array() else {
            return Err(self.expected(value, "dirs", "written as [[dirs]]"));
        };
        entries.iter().map(|entry| self.dir(entry)).collect()
    }

    fn dir(&self, entry: &Value<'_>) -> Result<Dir, String> {
        let (mut host, mut guest, mut mode) = (None, None, None);
        for (key, value) in self.table(entry, "an entry of dirs")? {
            match key.get_ref().as_ref() {
                "host" => host = Some(self.host(value)?),
                "guest" => guest = Some(self.guest(value)?),
                "mode" => {
                    mode = Some(match self.string(value, "dirs.mode")? {
                        "ro" => Mode::ReadOnly,
                        "rw" => Mode::ReadWrite,
                        _ => return Err(self.wrong(value.span(), "dirs.mode must be \"ro\" or \"rw\"")),
                    });
                }
                _ => return Err(self.unknown(key, &["host", "guest", "mode"])),
            }
        }
        let missing = |key: &str| self.wrong(entry.span(), format!("this entry of dirs lacks {key}"));
        Ok(Dir {
            host: host.ok_or_else(|| missing("host"))?,
            guest: guest.ok_or_else(|| missing("guest"))?,
            mode: mode.ok_or_else(|| missing("mode"))?,
        })
    }

    fn host(&self, value: &Value<'_>) -> Result<PathBuf, String> {
        let host = PathBuf::from(self.string(value, "dirs.host")?);
        let wrong = |what: &str| Err(self.wrong(value.span(), what));
        if !host.is_absolute() {
            return wrong("dirs.host, the folder of the host, must be an absolute path");
        }
        match std::fs::metadata(&host) {
            Ok(metadata) if metadata.is_dir() => Ok(host),
            Ok(_) => wrong("dirs.host is not a folder"),
            // The kind and not the error, which is the system's and may say anything.
            Err(error) => {
                wrong(&format!("dirs.host, the folder of the host, cannot be used: {}", error.kind()))
            }
        }
    }

    fn guest(&self, value: &Value<'_>) -> Result<String, String> {
        let guest = self.string(value, "dirs.guest")?;
        if !guest.starts_with('/') || guest.split('/').any(|part| part == "..") {
            let what = "dirs.guest, the folder as the guest sees it, must be an absolute path without '..'";
            return Err(self.wrong(value.span(), what));
        }
        Ok(guest.to_owned())
    }

    fn limits(&self, value: &Value<'_>, limits: &Limits, policy: &mut Policy) -> Result<(), String> {
        for (key, value) in self.table(value, "limits")? {
            match key.get_ref().as_ref() {
                "memory_mb" => {
                    let ceiling_mb = (limits.memory_ceiling_bytes >> 20) as u64;
                    policy.memory_bytes =
                        (self.number(value, "limits.memory_mb", ceiling_mb)? as usize) << 20;
                }
                "activity_cpu_ms" => {
                    let ms = self.number(value, "limits.activity_cpu_ms", u64::MAX)?;
                    policy.activity_cpu = Duration::from_millis(ms);
                }
                _ => return Err(self.unknown(key, &["memory_mb", "activity_cpu_ms"])),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Policy, String> {
        Policy::parse(text, &Limits::default())
    }

    #[test]
    fn an_empty_file_grants_nothing() {
        assert_eq!(parse("").unwrap(), Policy::none(&Limits::default()));
    }

    #[test]
    fn every_field_is_read() {
        let policy = parse(
            "[env]\nA = 'b'\n[[dirs]]\nhost = '/'\nguest = '/data'\nmode = 'ro'\n[limits]\nmemory_mb = 64\nactivity_cpu_ms = 1500",
        )
        .unwrap();
        assert_eq!(policy.env, [("A".to_owned(), "b".to_owned())]);
        assert_eq!(policy.dirs[0].mode, Mode::ReadOnly);
        assert_eq!(policy.memory_bytes, 64 << 20);
        assert_eq!(policy.activity_cpu, Duration::from_millis(1500));
    }

    #[test]
    fn each_mistake_has_its_place_and_its_message() {
        for (text, message) in [
            ("outbound = 1", "line 1, column 1: there is no such key; here are env, dirs and limits"),
            ("[env]\nA = 1", "line 2, column 5: the value of a variable of env is of the type integer"),
            ("[env]\n'A=B' = 'c'", "line 2, column 1: a variable of env: a name has no '='"),
            ("[[dirs]]\nhost = 'x'\nguest = '/x'\nmode = 'ro'", "must be an absolute path"),
            ("[[dirs]]\nhost = '/'\nguest = '../x'\nmode = 'ro'", "line 3, column 9: dirs.guest"),
            ("[[dirs]]\nhost = '/'\nguest = '/x'\nmode = 'rwx'", "dirs.mode must be \"ro\" or \"rw\""),
            ("[[dirs]]\nhost = '/'\nmode = 'rw'", "this entry of dirs lacks guest"),
            (
                "[[dirs]]\nhost = '/no-such-folder'\nguest = '/x'\nmode = 'ro'",
                "cannot be used: entity not found",
            ),
            ("dirs = 'x'", "it must be written as [[dirs]]"),
            ("[limits]\nmemory_mb = 0", "it can be 1 to 2048"),
            ("[limits]\nmemory_mb = 9999", "line 2, column 13: limits.memory_mb is out of its bounds"),
            ("[limits]\nmemory_mb = -1", "it can be 1 to 2048"),
            ("[limits]\nmemory_mb = '64'", "is of the type string; it must be an integer"),
            ("[limits]\nactivity_cpu_ms = 0", "at least 1"),
            ("[limits]\ncpu = 1", "there is no such key; here are memory_mb and activity_cpu_ms"),
            (
                "[limits]\nmemory = 1",
                "line 2, column 1: there is no such key: 'memory_mb' is meant? Here are",
            ),
            ("[limits]\nactivity_cpu = 1", "there is no such key: 'activity_cpu_ms' is meant?"),
            ("[[dir]]\nhost = '/'", "line 1, column 3: there is no such key: 'dirs' is meant?"),
            ("[limit]\nmemory_mb = 1", "there is no such key: 'limits' is meant?"),
            ("[[dirs]]\nhosts = '/'", "there is no such key: 'host' is meant? Here are host, guest and mode"),
            ("[limits", "line 1, column 8: unclosed table"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(message), "{text:?} gave {error:?}");
        }
    }

    /// A canary in every position of a file, as a word, as a string, as a key, glued to what stands there, or cut off.
    #[test]
    fn a18_what_stands_in_a_policy_file_is_in_no_message_about_it() {
        const CANARY: &str = "hunter2Xk";
        let whole = "# note\n[env]\nTOKEN = \"abc\"\n'q=' = 'x'\n[[dirs]]\nhost = \"/\"\nguest = \"/x\"\nmode = \"ro\"\n\
            [limits]\nmemory_mb = 64\nactivity_cpu_ms = 0x10\nlater = { a = [1, 2.5, true, 1979-05-27], b.c = '''x''' }\n";
        let forms = [
            CANARY.to_owned(),
            format!(" {CANARY} "),
            format!("\n{CANARY}\n"),
            format!("\"{CANARY}\""),
            format!("'{CANARY}'"),
            format!("\"{CANARY}"),
            format!("'''{CANARY}"),
            format!("\n{CANARY} = 1\n"),
            format!("\n\"{CANARY}\" = \"{CANARY}\"\n"),
            format!("\n[{CANARY}]\n"),
            format!("\n[[{CANARY}]]\n"),
            format!("\n[env]\n{CANARY} = 1\n"),
            format!("\n[env.{CANARY}]\n"),
            format!("\n[limits.{CANARY}]\n"),
            format!("{{ {CANARY} = 1 }}"),
            format!("\\{CANARY}"),
            format!("= {CANARY}\x07"),
            format!("\n{CANARY}.{CANARY} = 1\n{CANARY} = 2\n"),
        ];
        let mut told = 0;
        for at in (0..=whole.len()).filter(|at| whole.is_char_boundary(*at)) {
            for form in &forms {
                for rest in ["", &whole[at..]] {
                    let text = format!("{}{form}{rest}", &whole[..at]);
                    let Err(error) = parse(&text) else { continue };
                    told += 1;
                    assert!(!error.contains(CANARY), "{text:?} gave {error:?}");
                    assert!(error.starts_with("line ") && error.len() < 300, "{text:?} gave {error:?}");
                }
            }
        }
        assert!(told > 5_000, "{told} mistakes");
    }

    /// Values that are wrong by what they say and not by how they are written.
    #[test]
    fn a18_no_value_that_breaks_a_rule_is_repeated() {
        for text in [
            "[[dirs]]\nhost = 'hunter2Xk'\nguest = '/x'\nmode = 'ro'",
            "[[dirs]]\nhost = '/hunter2Xk'\nguest = '/x'\nmode = 'ro'",
            "[[dirs]]\nhost = '/'\nguest = 'hunter2Xk'\nmode = 'ro'",
            "[[dirs]]\nhost = '/'\nguest = '/x'\nmode = 'hunter2Xk'",
            "[env]\n'hunter2Xk=' = 'x'",
            "[env]\nA = \"hunter2Xk\\u0000\"",
            "[limits]\nmemory_mb = 'hunter2Xk'",
            "[limits]\nmemory_mb = 72717271",
            "[limits]\nactivity_cpu_ms = -72717271",
        ] {
            let error = parse(text).unwrap_err();
            assert!(!error.contains("hunter2Xk") && !error.contains("72717271"), "{error}");
        }
    }
}
