//! Server-sent events as they are sent in the wild: lines end in LF, CR or CRLF, there may be a byte order mark, comments,
//! fields without a space or without an end. The sum of what one event holds is bounded (THREATS row 22).

/// One event.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) data: String,
    pub(super) id: Option<String>,
    /// Milliseconds after which the server wants to be asked again.
    pub(super) retry: Option<u64>,
}

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
            // A comment, the name of the event, or something unknown.
            _ => return None,
        }
        self.begun = true;
        None
    }
}

/// Whether a body of no telling type is a stream of events.
pub(super) fn begins(body: &[u8]) -> bool {
    let body = body.strip_prefix(BOM).unwrap_or(body);
    let body = body.trim_ascii_start();
    let fields: [&[u8]; 5] = [b"data:", b"event:", b"id:", b"retry:", b":"];
    fields.iter().any(|field| body.starts_with(field))
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

    #[test]
    fn streams_are_read_as_servers_send_them() {
        let table: [(&str, Vec<Event>); 12] = [
            ("event: message\ndata: {}\n\n", vec![data("{}")]),
            ("event: message\r\ndata: {}\r\n\r\n", vec![data("{}")]),
            ("event: message\rdata: {}\r\r", vec![data("{}")]),
            ("\u{feff}data: {}\n\n", vec![data("{}")]),
            ("data:{}\n\n", vec![data("{}")]),
            (": ping\n\ndata: {}\n\n", vec![data("{}")]),
            ("data: {\ndata: }\n\n", vec![data("{\n}")]),
            ("data: {}\n", vec![data("{}")]),
            ("data: {}", vec![data("{}")]),
            (
                "id: 7\nretry: 20\ndata: \n\n",
                vec![Event { data: String::new(), id: Some("7".into()), retry: Some(20) }],
            ),
            ("data: a\n\n\n\ndata: b\n\n", vec![data("a"), data("b")]),
            ("\n\n:\n\n", vec![]),
        ];
        for (text, expected) in table {
            assert_eq!(read(&[text.as_bytes()]), expected, "{text:?}");
        }
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
