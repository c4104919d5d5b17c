//! Server-sent events as they are sent in the wild: lines end in LF, CR or CRLF, there may be a byte order mark, comments,
//! fields without a space or without an end. The sum of what one event holds is bounded (THREATS row 22).

/// One event.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// What kind it is; usually none.
    pub(super) name: String,
    pub(super) data: String,
    pub(super) id: Option<String>,
    /// Milliseconds after which the server wants to be asked again.
    pub(super) retry: Option<u64>,
}

impl Event {
    /// It tells that something went wrong.
    pub(super) fn is_error(&self) -> bool {
        self.name.eq_ignore_ascii_case("error")
    }
}

/// Bytes of a line that is no field and is told.
const LONGEST_ODD: usize = 4096;

/// One event is larger than the limit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

/// Reads events from bytes as they come.
pub(super) struct Events {
    limit: usize,
    line: Vec<u8>,
    event: Event,
    /// A field of the event has been read.
    begun: bool,
    after_cr: bool,
    first_line: bool,
    /// The first line that is no field of an event.
    odd: Option<String>,
}

const BOM: &[u8] = b"\xef\xbb\xbf";

impl Events {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            event: Event::default(),
            begun: false,
            after_cr: false,
            first_line: true,
            odd: None,
        }
    }

    /// The events that end in these bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLarge> {
        let mut events = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_cr) && rest[0] == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            let piece = &rest[..end.unwrap_or(rest.len())];
            if self.line.len() + self.event.data.len() + piece.len() > self.limit {
                return Err(TooLarge);
            }
            self.line.extend_from_slice(piece);
            let Some(end) = end else { break };
            self.after_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            events.extend(self.end_line());
        }
        Ok(events)
    }

    /// What was begun when the stream ended. The standard drops it; a server that forgets the last line break meant it.
    pub(super) fn end(&mut self) -> Option<Event> {
        let last = self.end_line();
        last.or_else(|| self.end_line())
    }

    /// What the event that is open holds so far, if that ends in what may be the end of a message: some servers forget the
    /// empty line behind it.
    pub(super) fn open(&self) -> Option<&str> {
        let data = self.event.data.as_str();
        (self.line.is_empty() && data.ends_with(['}', ']'])).then_some(data)
    }

    /// The first line that is no field of an event, of a body that is no stream of events.
    pub(super) fn odd(&mut self) -> Option<String> {
        self.odd.take()
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        let mut line = line.as_slice();
        if std::mem::take(&mut self.first_line) {
            line = line.strip_prefix(BOM).unwrap_or(line);
        }
        if line.is_empty() {
            let begun = std::mem::take(&mut self.begun);
            let event = std::mem::take(&mut self.event);
            return begun.then_some(event);
        }
        let line = String::from_utf8_lossy(line);
        let (name, value) = line.split_once(':').unwrap_or((&*line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => {
                if !self.event.data.is_empty() {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "id" if !value.contains('\0') => self.event.id = Some(value.to_owned()),
            "retry" => self.event.retry = value.trim().parse().ok(),
            "event" => {
                value.trim().clone_into(&mut self.event.name);
                // By itself, it is no event yet, unless its name says all.
                self.begun |= self.event.is_error();
                return None;
            }
            // A comment.
            "" => return None,
            _ => {
                if self.odd.is_none() && line.len() <= LONGEST_ODD {
                    self.odd = Some(line.trim().to_owned());
                }
                return None;
            }
        }
        self.begun = true;
        None
    }
}

/// Whether a body of no telling type is a stream of events; none if its beginning does not tell yet.
pub(super) fn begins(body: &[u8]) -> Option<bool> {
    let body = body.strip_prefix(BOM).unwrap_or(body);
    let body = body.trim_ascii_start();
    let fields: [&[u8]; 5] = [b"data:", b"event:", b"id:", b"retry:", b":"];
    match fields.iter().any(|field| body.starts_with(field)) {
        true => Some(true),
        false => (!fields.iter().any(|field| field.starts_with(body))).then_some(false),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(chunks: &[&[u8]]) -> Vec<Event> {
        let mut events = Events::new(1 << 20);
        let mut read: Vec<Event> =
            chunks.iter().flat_map(|chunk| events.push(chunk).expect("is small")).collect();
        read.extend(events.end());
        read
    }

    fn data(text: &str) -> Event {
        Event { data: text.into(), ..Event::default() }
    }

    fn named(name: &str, text: &str) -> Event {
        Event { name: name.into(), ..data(text) }
    }

    #[test]
    fn streams_are_read_as_servers_send_them() {
        let table: [(&str, Vec<Event>); 13] = [
            ("event: message\ndata: {}\n\n", vec![named("message", "{}")]),
            ("event: message\r\ndata: {}\r\n\r\n", vec![named("message", "{}")]),
            ("data: {}\revent:error\r\r", vec![named("error", "{}")]),
            ("event: a\n\ndata: {}\n\n", vec![data("{}")]),
            ("\u{feff}data: {}\n\n", vec![data("{}")]),
            ("data:{}\n\n", vec![data("{}")]),
            (": ping\n\ndata: {}\n\n", vec![data("{}")]),
            ("data: {\ndata: }\n\n", vec![data("{\n}")]),
            ("data: {}\n", vec![data("{}")]),
            ("data: {}", vec![data("{}")]),
            (
                "id: 7\nretry: 20\ndata: \n\n",
                vec![Event { id: Some("7".into()), retry: Some(20), ..Event::default() }],
            ),
            ("data: a\n\n\n\ndata: b\n\n", vec![data("a"), data("b")]),
            ("\n\n:\n\n", vec![]),
        ];
        for (text, expected) in table {
            assert_eq!(read(&[text.as_bytes()]), expected, "{text:?}");
        }
    }

    #[test]
    fn a_beginning_is_one_of_events_or_not_or_does_not_tell_yet() {
        for (begin, expected) in [
            ("", None),
            (" \n", None),
            ("da", None),
            ("data", None),
            ("\u{feff}ev", None),
            ("data:", Some(true)),
            (":", Some(true)),
            ("\n retry: 1", Some(true)),
            ("{", Some(false)),
            ("dates", Some(false)),
        ] {
            assert_eq!(begins(begin.as_bytes()), expected, "{begin:?}");
        }
    }

    #[test]
    fn what_is_open_and_what_is_odd_can_be_asked_for() {
        let mut events = Events::new(100);
        for (text, open) in
            [("oops: no\n", None), ("data: {\n", None), ("data: }", None), ("\n", Some("{\n}"))]
        {
            events.push(text.as_bytes()).expect("is small");
            assert_eq!(events.open(), open, "{text:?}");
        }
        assert_eq!((events.end(), events.odd()), (Some(data("{\n}")), Some("oops: no".into())));
    }

    #[test]
    fn an_event_that_does_not_end_is_given_up() {
        let mut events = Events::new(100);
        let chunk = b"data: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n";
        let ends = (0..3).find_map(|_| events.push(chunk).err());
        assert_eq!(ends, Some(TooLarge));
        assert_eq!(Events::new(10).push(&[b'x'; 11]), Err(TooLarge));
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_does_not_matter(cuts in prop::collection::vec(0_usize..60, 0..6), end in 0..3_usize) {
            let text = "\u{feff}: c\nid: 1\ndata: é{\ndata:}\n\nretry: 5\nevent: x\ndata: ü\n\n"
                .replace('\n', ["\n", "\r", "\r\n"][end]);
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&chunks), read(&[bytes]));
        }
    }
}
