//! Escapes: single characters that are written in another way. Each kind is undone in one pass, around those places only
//! where what comes out may be a part of a secret.

use super::{
    lines::{line_break, line_break_alone},
    runs::BASE64,
    view::{Unit, View},
    ways::Ways,
};

/// A way of writing single characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Escapes {
    /// As strings of JSON and of programming languages have them: `\/`, `\u0041`, `\x41`.
    Backslash,
    /// HTML and XML: `&amp;`, `&#65;`, `&#x41;`.
    Entities,
    /// URLs: `%41`; and `%u0041`, as JavaScript's `escape` has it.
    Percent,
    /// Quoted-printable: `=41`, and `=` at the end of a line.
    Quoted,
    /// A secret that goes on in the next line.
    Lines,
}

impl Escapes {
    pub(super) const ALL: [Self; 5] =
        [Self::Backslash, Self::Entities, Self::Percent, Self::Quoted, Self::Lines];

    /// Whether they begin with `&`, `%` or `=`.
    pub(super) fn have_signs(self) -> bool {
        matches!(self, Self::Entities | Self::Percent | Self::Quoted)
    }

    fn next(self, text: &[u8], from: usize) -> Option<usize> {
        let rest = text.get(from..)?;
        let found = match self {
            Self::Backslash => memchr::memchr(b'\\', rest),
            Self::Entities => memchr::memchr(b'&', rest),
            Self::Percent => memchr::memchr(b'%', rest),
            Self::Quoted => memchr::memchr(b'=', rest),
            Self::Lines => memchr::memchr2(b'\n', b'\r', rest),
        };
        found.map(|at| from + at)
    }

    /// The escape that a text begins with.
    fn read(self, text: &[u8]) -> Option<Escape> {
        match self {
            Self::Backslash => backslash(text),
            Self::Entities => entity(text),
            Self::Percent => percent(text),
            Self::Quoted => quoted(text),
            Self::Lines => Some(Escape { len: line_break(text)?, ..Escape::default() }),
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }

    /// The kinds, a bit each, of which a secret holds one as it stands there, or with what may stand behind it.
    pub(super) fn looked_like(secret: &str) -> u8 {
        let text = [secret.as_bytes(), b"41;"].concat();
        let holds = |kind: &Self| {
            let signs = std::iter::successors(kind.next(&text, 0), |at| kind.next(&text, at + 1));
            signs.into_iter().any(|at| at < secret.len() && kind.read(&text[at..]).is_some())
        };
        Self::ALL.iter().filter(|kind| holds(kind)).fold(0, |kinds, kind| kinds | kind.bit())
    }

    /// Pieces of the text with these escapes undone. `after` is what was undone before, and which escapes these were.
    ///
    /// Escapes that stand beside each other are undone in one order only: those that come earlier are undone after others if
    /// they are made of these. But if a secret looks like the others, it is lost when those are undone last: both orders are
    /// gone through.
    pub(super) fn undo(self, text: &[u8], after: Option<(&View, Option<Self>)>, ways: &Ways) -> View {
        let is_over = |last: Self| self == last || self < last && ways.looks_like & last.bit() == 0;
        let made = after.filter(|(_, last)| last.is_some_and(is_over)).map(|(view, _)| view);
        let (mut view, mut from, mut done) = (View::default(), 0, 0);
        while let Some(hit) = self.next_wanted(text, from, made, ways) {
            let start = hit.saturating_sub(ways.context).max(done);
            let (mut limit, mut at) = (hit + ways.context, start);
            done = start;
            view.apart();
            while let Some(next) = self.next(text, at).filter(|next| *next < limit) {
                let Some(escape) = self.read(&text[next..]) else {
                    at = next + 1;
                    continue;
                };
                if self.is_wanted(text, next, &escape, ways) {
                    limit = limit.max(next + ways.context);
                }
                view.copy(text, done..next);
                at = next + escape.len;
                view.push(escape.bytes(), next..at, Unit::Whole);
                done = at;
            }
            let end = limit.min(text.len()).max(done);
            view.copy(text, done..end);
            from = end;
        }
        view
    }

    fn next_wanted(self, text: &[u8], mut from: usize, made: Option<&View>, ways: &Ways) -> Option<usize> {
        // Something inside of it.
        let is_made =
            |at: usize, len: usize| made.is_none_or(|view| view.is_changed(&(at + 1..at + len - 1)));
        while let Some(at) = self.next(text, from) {
            from = match self.read(&text[at..]) {
                Some(escape) if self.is_wanted(text, at, &escape, ways) && is_made(at, escape.len) => {
                    return Some(at);
                }
                Some(escape) => at + escape.len,
                None => at + 1,
            };
        }
        None
    }

    /// Whether what an escape stands for may be a part of a secret, or of one that was encoded.
    fn is_wanted(self, text: &[u8], at: usize, escape: &Escape, ways: &Ways) -> bool {
        let before = || at.checked_sub(1).map(|before| &text[before]);
        let is_broken = || ways.is_pair(before(), text.get(at + escape.len));
        match (self, escape.bytes()) {
            (Self::Lines, _) => is_broken(),
            (Self::Quoted, []) => true,
            // A line break is in no secret, but between the lines of base64 and of what is quoted-printable.
            (_, [b'\n' | b'\r']) if before() != Some(&b'=') => {
                let line = &text[at.saturating_sub(8)..at];
                line.len() == 8 && line.iter().all(|&byte| BASE64[usize::from(byte)]) || is_broken()
            }
            (_, bytes) => bytes.iter().any(|&byte| ways.possible()[usize::from(byte)]),
        }
    }
}

/// An escape that was read.
#[derive(Default)]
struct Escape {
    /// How many bytes it is.
    len: usize,
    /// What it stands for.
    stands_for: [u8; 4],
    stands_for_len: usize,
}

impl Escape {
    fn byte(len: usize, byte: u8) -> Self {
        Self { len, stands_for: [byte, 0, 0, 0], stands_for_len: 1 }
    }

    fn character(len: usize, character: char) -> Self {
        let mut stands_for = [0; 4];
        let stands_for_len = character.encode_utf8(&mut stands_for).len();
        Self { len, stands_for, stands_for_len }
    }

    fn bytes(&self) -> &[u8] {
        &self.stands_for[..self.stands_for_len]
    }
}

fn number(digits: &[u8], radix: u32) -> Option<u32> {
    let mut digits = digits.iter().map(|&digit| char::from(digit).to_digit(radix));
    digits.try_fold(0_u32, |sum, digit| sum.checked_mul(radix)?.checked_add(digit?))
}

fn hexadecimal(text: &[u8], from: usize, len: usize) -> Option<u32> {
    number(text.get(from..from + len)?, 16)
}

fn backslash(text: &[u8]) -> Option<Escape> {
    let byte = match text.get(1)? {
        byte @ (b'"' | b'\'' | b'\\' | b'/') => *byte,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'x' => return Some(Escape::byte(4, u8::try_from(hexadecimal(text, 2, 2)?).ok()?)),
        b'u' if text.get(2) == Some(&b'{') => {
            let len = text.iter().take(12).position(|&byte| byte == b'}')?;
            return Some(Escape::character(len + 1, char::from_u32(number(&text[3..len], 16)?)?));
        }
        b'u' => return utf16(text, br"\u"),
        _ => return None,
    };
    Some(Escape::byte(2, byte))
}

/// `\u` or `%u` with four digits, or two of them for one character.
fn utf16(text: &[u8], sign: &[u8]) -> Option<Escape> {
    let first = hexadecimal(text, 2, 4)?;
    if let Some(character) = char::from_u32(first) {
        return Some(Escape::character(6, character));
    }
    let second = hexadecimal(text, 8, 4).filter(|_| text[6..].starts_with(sign))?;
    let units = [u16::try_from(first).ok()?, u16::try_from(second).ok()?];
    Some(Escape::character(12, char::decode_utf16(units).next()?.ok()?))
}

fn percent(text: &[u8]) -> Option<Escape> {
    match text.get(1)? {
        b'u' | b'U' => utf16(text, b"%u"),
        _ => Some(Escape::byte(3, u8::try_from(hexadecimal(text, 1, 2)?).ok()?)),
    }
}

fn quoted(text: &[u8]) -> Option<Escape> {
    if let Some(len) = line_break_alone(text.get(1..)?) {
        return Some(Escape { len: len + 1, ..Escape::default() });
    }
    Some(Escape::byte(3, u8::try_from(hexadecimal(text, 1, 2)?).ok()?))
}

fn entity(text: &[u8]) -> Option<Escape> {
    let is_ended = |len: usize| usize::from(text.get(len) == Some(&b';'));
    if text.get(1) == Some(&b'#') {
        let (begin, radix) = if matches!(text.get(2), Some(b'x' | b'X')) { (3, 16) } else { (2, 10) };
        let digits = text.get(begin..)?.iter().take(12).take_while(|&&byte| char::from(byte).is_digit(radix));
        let end = begin + digits.count();
        let code = number(text.get(begin..end).filter(|digits| !digits.is_empty())?, radix)?;
        return Some(Escape::character(end + is_ended(end), char::from_u32(code)?));
    }
    let letters = text[1..].iter().take(12).take_while(|byte| byte.is_ascii_alphanumeric()).count();
    let (end, name) = (1 + letters, std::str::from_utf8(&text[1..1 + letters]).ok()?);
    if is_ended(end) == 0 {
        // Some need no end.
        let known = ["amp", "quot", "lt", "gt"].into_iter().find(|known| name.starts_with(known))?;
        return Some(Escape::character(1 + known.len(), named(known)?));
    }
    Some(Escape::character(end + 1, named(name)?))
}

/// The characters of ASCII that have names, and the letters of Latin-1.
fn named(name: &str) -> Option<char> {
    let (_, character) = NAMED.iter().find(|(known, _)| *known == name)?;
    Some(*character)
}

#[rustfmt::skip]
const NAMED: [(&str, char); 111] = [
    ("amp", '&'), ("AMP", '&'), ("lt", '<'), ("LT", '<'), ("gt", '>'), ("GT", '>'), ("quot", '"'), ("QUOT", '"'),
    ("apos", '\''), ("sol", '/'), ("bsol", '\\'), ("plus", '+'), ("equals", '='), ("lowbar", '_'), ("UnderBar", '_'),
    ("excl", '!'), ("num", '#'), ("dollar", '$'), ("percnt", '%'), ("lpar", '('), ("rpar", ')'), ("ast", '*'),
    ("midast", '*'), ("comma", ','), ("period", '.'), ("colon", ':'), ("semi", ';'), ("quest", '?'), ("commat", '@'),
    ("lsqb", '['), ("lbrack", '['), ("rsqb", ']'), ("rbrack", ']'), ("Hat", '^'), ("grave", '`'),
    ("DiacriticalGrave", '`'), ("lcub", '{'), ("lbrace", '{'), ("rcub", '}'), ("rbrace", '}'), ("verbar", '|'),
    ("vert", '|'), ("VerticalLine", '|'), ("Tab", '\t'), ("NewLine", '\n'), ("nbsp", '\u{a0}'), ("hyphen", '‐'),
    ("Agrave", 'À'), ("Aacute", 'Á'), ("Acirc", 'Â'), ("Atilde", 'Ã'), ("Auml", 'Ä'), ("Aring", 'Å'), ("AElig", 'Æ'),
    ("Ccedil", 'Ç'), ("Egrave", 'È'), ("Eacute", 'É'), ("Ecirc", 'Ê'), ("Euml", 'Ë'), ("Igrave", 'Ì'), ("Iacute", 'Í'),
    ("Icirc", 'Î'), ("Iuml", 'Ï'), ("ETH", 'Ð'), ("Ntilde", 'Ñ'), ("Ograve", 'Ò'), ("Oacute", 'Ó'), ("Ocirc", 'Ô'),
    ("Otilde", 'Õ'), ("Ouml", 'Ö'), ("times", '×'), ("Oslash", 'Ø'), ("Ugrave", 'Ù'), ("Uacute", 'Ú'), ("Ucirc", 'Û'),
    ("Uuml", 'Ü'), ("Yacute", 'Ý'), ("THORN", 'Þ'), ("szlig", 'ß'), ("agrave", 'à'), ("aacute", 'á'), ("acirc", 'â'),
    ("atilde", 'ã'), ("auml", 'ä'), ("aring", 'å'), ("aelig", 'æ'), ("ccedil", 'ç'), ("egrave", 'è'), ("eacute", 'é'),
    ("ecirc", 'ê'), ("euml", 'ë'), ("igrave", 'ì'), ("iacute", 'í'), ("icirc", 'î'), ("iuml", 'ï'), ("eth", 'ð'),
    ("ntilde", 'ñ'), ("ograve", 'ò'), ("oacute", 'ó'), ("ocirc", 'ô'), ("otilde", 'õ'), ("ouml", 'ö'), ("divide", '÷'),
    ("oslash", 'ø'), ("ugrave", 'ù'), ("uacute", 'ú'), ("ucirc", 'û'), ("uuml", 'ü'), ("yacute", 'ý'), ("thorn", 'þ'),
    ("yuml", 'ÿ'),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_looks_like_the_escapes_that_stand_in_it_or_that_it_begins() {
        for (secret, expected) in [
            ("tok-4f9a81c2e7d34b60", vec![]),
            ("a=0Fb\\c%zz&d", vec![Escapes::Quoted]),
            ("c2VjcmV0LXBhZGRlZA==", vec![Escapes::Quoted]),
            ("p<a&amp=d/x%41", vec![Escapes::Entities, Escapes::Percent]),
            ("C:\\new%4", vec![Escapes::Backslash, Escapes::Percent]),
        ] {
            let kinds: Vec<_> = Escapes::ALL
                .into_iter()
                .filter(|kind| Escapes::looked_like(secret) & kind.bit() != 0)
                .collect();
            assert_eq!(kinds, expected, "{secret}");
        }
    }

    #[test]
    fn escapes_are_read_as_what_they_stand_for_and_others_are_left() {
        for (escapes, text, len, stands_for) in [
            (Escapes::Backslash, r"\/x", 2, "/"),
            (Escapes::Backslash, r"\u00e9", 6, "é"),
            (Escapes::Backslash, r"\ud83d\uDE00", 12, "😀"),
            (Escapes::Backslash, r"\u{1f600}", 9, "😀"),
            (Escapes::Backslash, r"\x41", 4, "A"),
            (Escapes::Entities, "&amp;", 5, "&"),
            (Escapes::Entities, "&ampx", 4, "&"),
            (Escapes::Entities, "&#65;", 5, "A"),
            (Escapes::Entities, "&#0000065B", 9, "A"),
            (Escapes::Entities, "&#X41;", 6, "A"),
            (Escapes::Entities, "&auml;", 6, "ä"),
            (Escapes::Entities, "&sol;", 5, "/"),
            (Escapes::Percent, "%4a", 3, "J"),
            (Escapes::Percent, "%u00e9", 6, "é"),
            (Escapes::Quoted, "=3D", 3, "="),
            (Escapes::Quoted, "=\r\nx", 3, ""),
            (Escapes::Lines, "\r\n  x", 4, ""),
        ] {
            let escape = escapes.read(text.as_bytes()).expect(text);
            assert_eq!((escape.len, escape.bytes()), (len, stands_for.as_bytes()), "{text}");
        }
        for (escapes, text) in [
            (Escapes::Backslash, r"\u00e"),
            (Escapes::Backslash, r"\ud83dx"),
            (Escapes::Backslash, r"\"),
            (Escapes::Backslash, r"\q"),
            (Escapes::Backslash, r"\u{zzzzzzzzzzzzzz}"),
            (Escapes::Entities, "&"),
            (Escapes::Entities, "&#;"),
            (Escapes::Entities, "&#x110000;"),
            (Escapes::Entities, "&name;"),
            (Escapes::Percent, "%4"),
            (Escapes::Percent, "%+4"),
            (Escapes::Quoted, "="),
        ] {
            assert!(escapes.read(text.as_bytes()).is_none(), "{text}");
        }
    }
}
