//! The files of the log: `audit-00000001.jsonl` and so on in a folder of their own, read by nobody but their owner.

use std::{
    fs::{DirBuilder, File, Permissions},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::chain;

/// Makes the folder if there is none, and closes it to others.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    std::fs::set_permissions(folder, Permissions::from_mode(0o700))
}

/// The numbers of the files there are, in order. A folder that does not exist has none.
pub(super) fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let entries = match folder.read_dir() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix("audit-")?.strip_suffix(".jsonl"));
        numbers.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The name of a file.
pub(super) fn name(number: u64) -> String {
    format!("audit-{number:08}.jsonl")
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(name(number))
}

/// Opens a file for writing at its end, and makes it if there is none.
pub(super) fn open_to_write(folder: &Path, number: u64) -> io::Result<File> {
    let path = path(folder, number);
    let file = File::options().create(true).append(true).read(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// A line with its place.
#[derive(Debug)]
pub(super) struct Line {
    /// The number of its file.
    pub(super) file: u64,
    /// Counts from 1 in each file.
    pub(super) number: u64,
    /// Without the line feed.
    pub(super) bytes: Vec<u8>,
    /// There was a line feed.
    pub(super) whole: bool,
}

/// All lines of some files, one after the other.
pub(super) struct Lines<'a> {
    folder: &'a Path,
    files: std::vec::IntoIter<u64>,
    open: Option<(u64, u64, BufReader<File>)>,
}

impl<'a> Lines<'a> {
    pub(super) fn of(folder: &'a Path, files: Vec<u64>) -> Self {
        Self { folder, files: files.into_iter(), open: None }
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            if let Some((file, number, reader)) = &mut self.open {
                let mut bytes = Vec::new();
                if reader.read_until(b'\n', &mut bytes)? > 0 {
                    *number += 1;
                    let whole = bytes.pop_if(|last| *last == b'\n').is_some();
                    return Ok(Some(Line { file: *file, number: *number, bytes, whole }));
                }
            }
            let Some(file) = self.files.next() else { return Ok(None) };
            self.open = Some((file, 0, BufReader::new(File::open(path(self.folder, file))?)));
        }
    }
}

/// The first line of a file, if it is whole.
pub(super) fn first_line(folder: &Path, number: u64) -> io::Result<Option<Vec<u8>>> {
    let line = Lines::of(folder, vec![number]).next()?;
    Ok(line.filter(|line| line.whole).map(|line| line.bytes))
}

/// No entry is longer: see [`entry`](super::entry).
const LONGEST_LINE: u64 = 128 << 10;

/// The last whole line of a file, read from its end.
pub(super) fn last_line(folder: &Path, number: u64) -> io::Result<Option<Vec<u8>>> {
    let mut file = File::open(path(folder, number))?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LONGEST_LINE)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else { return Ok(None) };
    let begin = bytes[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |feed| feed + 1);
    Ok(Some(bytes[begin..end].to_vec()))
}

/// The SHA-256 of a file, in hexadecimal digits.
pub(super) fn digest(folder: &Path, number: u64) -> io::Result<String> {
    let (mut file, mut digest) = (File::open(path(folder, number))?, Sha256::new());
    let mut part = vec![0; 64 << 10];
    loop {
        match file.read(&mut part)? {
            0 => return Ok(hex::encode(digest.finalize())),
            read => digest.update(&part[..read]),
        }
    }
}

/// Removes a file. It is gone from the disk when this returns.
pub(super) fn remove(folder: &Path, number: u64) -> io::Result<()> {
    std::fs::remove_file(path(folder, number))?;
    File::open(folder)?.sync_all()
}

/// The end of a file: where its last whole line ends, and that line.
pub(super) fn end(folder: &Path, number: u64) -> io::Result<(u64, Option<Vec<u8>>)> {
    let (mut lines, mut end, mut last) = (Lines::of(folder, vec![number]), 0, None);
    while let Some(line) = lines.next()?.filter(|line| line.whole) {
        end += line.bytes.len() as u64 + 1;
        last = Some(line.bytes);
    }
    Ok((end, last))
}

/// A place in the log from which one reads on, over files and over what is written meanwhile.
#[derive(Debug)]
pub(super) struct Cursor {
    folder: PathBuf,
    file: u64,
    offset: u64,
    /// The entry that is read next.
    next: u64,
}

impl Cursor {
    /// The place after an entry.
    pub(super) fn after(folder: &Path, after: u64) -> io::Result<Self> {
        let numbers = numbers(folder)?;
        let mut file = numbers.first().copied().unwrap_or(1);
        for number in numbers.into_iter().rev() {
            let first = Lines::of(folder, vec![number]).next()?;
            let first = first.and_then(|line| chain::sequence(&line.bytes));
            if first.is_some_and(|first| first <= after + 1) {
                file = number;
                break;
            }
        }
        Ok(Self { folder: folder.into(), file, offset: 0, next: after + 1 })
    }

    /// The entry that is read next.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Shows lines up to that of the entry `until`, which was written before, until `visit` says that it is enough.
    /// Lines that are no entries are left out: what is wrong with them is for [`verify`](super::AuditLog::verify) to say.
    pub(super) fn read(
        &mut self,
        until: u64,
        mut visit: impl FnMut(u64, &[u8]) -> io::Result<bool>,
    ) -> io::Result<()> {
        let mut bytes = Vec::new();
        while self.next <= until {
            let mut file = match File::open(path(&self.folder, self.file)) {
                Ok(file) => BufReader::with_capacity(64 << 10, file),
                // It was removed for its age: one reads on where the log begins now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => match self.following()? {
                    Some(()) => continue,
                    None => return Ok(()),
                },
                Err(error) => return Err(error),
            };
            file.seek(SeekFrom::Start(self.offset))?;
            while self.next <= until {
                bytes.clear();
                let length = file.read_until(b'\n', &mut bytes)?;
                if bytes.pop() != Some(b'\n') {
                    break;
                }
                self.offset += length as u64;
                let Some(sequence) = chain::sequence(&bytes).filter(|sequence| *sequence >= self.next) else {
                    continue;
                };
                self.next = sequence + 1;
                if !visit(sequence, &bytes)? {
                    return Ok(());
                }
            }
            if self.next > until {
                break;
            }
            // What was written before the call and is not in this file is in the next.
            if self.following()?.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Goes to the beginning of the next file, if there is one.
    fn following(&mut self) -> io::Result<Option<()>> {
        let following = numbers(&self.folder)?.into_iter().find(|number| *number > self.file);
        Ok(following.map(|following| (self.file, self.offset) = (following, 0)))
    }
}
