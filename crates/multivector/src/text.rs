//! The text form: `[[0.1,-2],[3,4]]`.
//!
//! Used by SQL input and output, and so by dump and restore. Numbers are printed with the fewest digits that read back as
//! the same f32; compact element types show the values they decode to, which encode to the same bytes again. Input
//! also takes the braces of PostgreSQL's arrays, `{{0.1,-2},{3,4}}`, and white space anywhere between.

use crate::builder::Builder;
use crate::error::Error;
use crate::number;
use crate::shape::MAX_BYTES;
use crate::view::View;

/// How much of the input an error shows.
const SHOWN_CHARS: usize = 24;
/// PostgreSQL's limit for a C string, its terminating zero included.
const MAX_TEXT_BYTES: usize = MAX_BYTES - 1;

/// Reads a multivector's text into rows; [`Builder::finish`] then encodes them as the column wants them.
///
/// # Errors
/// [`Error::Syntax`], [`Error::NumberOutOfRange`] and [`Error::NullElement`] with the position; [`Error::NotFinite`] for NaN and
/// infinities, [`Error::Ragged`] and the limits as [`Builder::push`]; [`Error::Empty`] for `[]`, [`Error::ZeroDim`] for `[[]]`.
pub fn parse(text: &str) -> Result<Builder, Error> {
    let mut reader = Reader { text, at: 0 };
    let mut rows = Builder::new();
    let braces = reader.open("\"[\"", None)?;
    if reader.take(braces.close()) {
        reader.end()?;
        return Err(Error::Empty);
    }
    loop {
        reader.open(braces.open_name(), Some(braces))?;
        if reader.take(braces.close()) {
            return Err(Error::ZeroDim);
        }
        loop {
            rows.push_component(reader.number()?)?;
            if !reader.separator(braces)? {
                break;
            }
        }
        rows.end_row()?;
        if !reader.separator(braces)? {
            break;
        }
    }
    reader.end()?;
    Ok(rows)
}

/// Prints a multivector.
///
/// # Errors
/// [`Error::Corrupt`] when a stored number is none; [`Error::TooLarge`] when the text (or the numbers) would exceed 1 GB.
pub fn print(view: View<'_>) -> Result<String, Error> {
    let values = view.values()?;
    let row_len = view.dim() * (number::MAX_LEN + 1) + 2;
    let mut out = String::new();
    let mut scratch = String::new();
    out.push('[');
    for (token, row) in values.chunks_exact(view.dim()).enumerate() {
        if token > 0 {
            out.push(',');
        }
        out.reserve(row_len);
        out.push('[');
        for (component, &value) in row.iter().enumerate() {
            if component > 0 {
                out.push(',');
            }
            number::push(&mut out, &mut scratch, value);
        }
        out.push(']');
        if out.len() >= MAX_TEXT_BYTES {
            return Err(Error::TooLarge {
                bytes: out.len() + 1,
                max: MAX_TEXT_BYTES,
            });
        }
    }
    out.push(']');
    Ok(out)
}

/// Which brackets a text uses; it uses one kind throughout.
#[derive(Clone, Copy, PartialEq)]
enum Brackets {
    Square,
    Curly,
}

impl Brackets {
    fn open(self) -> u8 {
        match self {
            Brackets::Square => b'[',
            Brackets::Curly => b'{',
        }
    }

    fn close(self) -> u8 {
        match self {
            Brackets::Square => b']',
            Brackets::Curly => b'}',
        }
    }

    fn open_name(self) -> &'static str {
        match self {
            Brackets::Square => "\"[\"",
            Brackets::Curly => "\"{\"",
        }
    }

    fn separator_name(self) -> &'static str {
        match self {
            Brackets::Square => "\",\" or \"]\"",
            Brackets::Curly => "\",\" or \"}\"",
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// The next byte that is not white space (PostgreSQL's: vertical tab included).
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t'..=b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// An opening bracket, of the kind in use or, at first, of either.
    fn open(&mut self, expected: &'static str, kind: Option<Brackets>) -> Result<Brackets, Error> {
        let kinds = [Brackets::Square, Brackets::Curly];
        for candidate in kinds {
            if kind.is_none_or(|kind| kind == candidate) && self.take(candidate.open()) {
                return Ok(candidate);
            }
        }
        Err(self.unexpected(expected))
    }

    /// A comma (true) or a closing bracket (false).
    fn separator(&mut self, brackets: Brackets) -> Result<bool, Error> {
        if self.take(b',') {
            Ok(true)
        } else if self.take(brackets.close()) {
            Ok(false)
        } else {
            Err(self.unexpected(brackets.separator_name()))
        }
    }

    /// A number, `NaN` and `Infinity` in all their spellings included: that they are refused is the builder's affair.
    fn number(&mut self) -> Result<f32, Error> {
        self.peek();
        let word = self.word();
        let is_name = word
            .trim_start_matches(['+', '-'])
            .starts_with(|first: char| first.is_ascii_alphabetic());
        match word.parse::<f32>() {
            Ok(value) if value.is_infinite() && !is_name => Err(Error::NumberOutOfRange {
                position: self.at,
                number: shown(word),
            }),
            Ok(value) => {
                self.at += word.len();
                Ok(value)
            }
            Err(_) if word.eq_ignore_ascii_case("null") => {
                Err(Error::NullElement { position: self.at })
            }
            Err(_) => Err(self.unexpected("a number")),
        }
    }

    fn end(&mut self) -> Result<(), Error> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.unexpected("the end of the text")),
        }
    }

    /// What stands here, up to white space, comma or bracket.
    fn word(&self) -> &'a str {
        let rest = &self.text[self.at..];
        let is_end = |byte: u8| {
            matches!(
                byte,
                b' ' | b'\t'..=b'\r' | b',' | b'[' | b']' | b'{' | b'}'
            )
        };
        let len = rest.bytes().position(is_end).unwrap_or(rest.len());
        &rest[..len]
    }

    fn unexpected(&mut self, expected: &'static str) -> Error {
        self.peek();
        let rest = &self.text[self.at..];
        let found = match self.word() {
            "" => rest.chars().next().map(String::from),
            word => Some(shown(word)),
        };
        Error::Syntax {
            position: self.at,
            found,
            expected,
        }
    }
}

/// The beginning of a word.
fn shown(word: &str) -> String {
    match word.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &word[..end]),
        None => word.to_owned(),
    }
}
