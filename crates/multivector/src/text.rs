//! The text form: `[[0.1,-2],[3,4]]`, and `f16:[[0.1,-2],[3,4]]` for the element types that are not f32.
//!
//! Used by SQL input and output, and so by dump and restore. Numbers are printed with the fewest digits that read back as
//! the same f32; compact element types show the values they decode to, which encode to the same bytes again, and name
//! themselves, so that text reads back as the same value whatever reads it. Input also takes `f32:`, the braces of
//! PostgreSQL's arrays, `{{0.1,-2},{3,4}}`, and white space anywhere between.

use std::fmt;

use crate::builder::Builder;
use crate::element::ElementType;
use crate::encode::encode;
use crate::error::Error;
use crate::number;
use crate::poll::{BLOCK, Poll};
use crate::shape::MAX_BYTES;
use crate::view::View;

/// How much of the input an error shows.
const SHOWN_CHARS: usize = 24;
/// No number is longer; the bound keeps a text without separators from being searched without a poll.
const MAX_WORD_BYTES: usize = BLOCK;
/// PostgreSQL's limit for a C string, its terminating zero included.
const MAX_TEXT_BYTES: usize = MAX_BYTES - 1;

/// What a text says.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    /// The element type that it names; f32 where it names none.
    pub element: ElementType,
    /// The numbers as they stand there, before they are rounded to the element type.
    pub rows: Builder,
}

impl Text {
    /// The value that the text is.
    ///
    /// # Errors
    /// As [`encode`].
    pub fn finish(&self, poll: Poll<'_>) -> Result<Vec<u8>, Error> {
        let (values, shape) = self.rows.rows()?;
        encode(values, shape, self.element, poll)
    }
}

/// Reads a multivector's text.
///
/// # Errors
/// [`Error::Syntax`], [`Error::NumberOutOfRange`] and [`Error::NullElement`] with the position; [`Error::NotFinite`] for NaN and
/// infinities, [`Error::Ragged`] and the limits as [`Builder::push`]; [`Error::Empty`] for `[]`, [`Error::ZeroDim`] for `[[]]`.
pub fn parse(text: &[u8], poll: Poll<'_>) -> Result<Text, Error> {
    let mut reader = Reader {
        text,
        at: 0,
        next_poll: 0,
        poll,
    };
    let element = reader.element()?;
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
    Ok(Text { element, rows })
}

/// Prints a multivector, a token at a time.
///
/// # Errors
/// [`Error::Corrupt`] when a stored number is none; [`Error::TooLarge`] when the text (or the numbers) would exceed 1 GB.
pub fn print(view: View<'_>, out: &mut dyn fmt::Write, poll: Poll<'_>) -> Result<(), Error> {
    let values = view.values(poll)?;
    let mut row_text = String::with_capacity(view.dim() * (number::MAX_LEN + 1) + 3);
    let mut scratch = String::new();
    let mut printed = 0;
    if view.element_type() != ElementType::F32 {
        row_text.push_str(view.element_type().name());
        row_text.push(':');
    }
    row_text.push('[');
    for (token, row) in values.chunks_exact(view.dim()).enumerate() {
        poll();
        if token > 0 {
            row_text.push(',');
        }
        row_text.push('[');
        for (component, &value) in row.iter().enumerate() {
            if component > 0 {
                row_text.push(',');
            }
            number::push(&mut row_text, &mut scratch, value);
        }
        row_text.push(']');
        if token + 1 == view.tokens() {
            row_text.push(']');
        }
        printed += row_text.len();
        if printed > MAX_TEXT_BYTES {
            return Err(Error::TooLarge {
                bytes: printed,
                max: MAX_TEXT_BYTES,
            });
        }
        out.write_str(&row_text).expect("memory takes any text");
        row_text.clear();
    }
    Ok(())
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
    text: &'a [u8],
    at: usize,
    next_poll: usize,
    poll: Poll<'a>,
}

impl<'a> Reader<'a> {
    fn advance(&mut self, bytes: usize) {
        self.at += bytes;
        if self.at >= self.next_poll {
            (self.poll)();
            self.next_poll = self.at + BLOCK;
        }
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        while let Some(&byte) = self.text.get(self.at) {
            if !is_space(byte) {
                return Some(byte);
            }
            self.advance(1);
        }
        None
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.advance(usize::from(found));
        found
    }

    /// The name of an element type and a colon, where the text begins with a letter; else f32.
    fn element(&mut self) -> Result<ElementType, Error> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_alphabetic()) {
            return Ok(ElementType::F32);
        }
        let word = self.word();
        let named = word.iter().position(|&byte| byte == b':').and_then(|len| {
            let name = std::str::from_utf8(&word[..len]).ok()?;
            Some((len, ElementType::from_name(name)?))
        });
        let (len, element) =
            named.ok_or_else(|| self.unexpected("\"[\", \"f16:\", \"int8:\" or \"bit:\""))?;
        self.advance(len + 1);
        Ok(element)
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
        // What is not UTF-8 is no number either.
        let word = std::str::from_utf8(self.word()).unwrap_or_default();
        let is_name = word
            .trim_start_matches(['+', '-'])
            .starts_with(|first: char| first.is_ascii_alphabetic());
        match word.parse::<f32>() {
            Ok(value) if value.is_infinite() && !is_name => Err(Error::NumberOutOfRange {
                position: self.at,
                number: shown(word),
            }),
            Ok(value) => {
                self.advance(word.len());
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

    /// What stands here, up to white space, comma or bracket, or the longest word there is.
    fn word(&self) -> &'a [u8] {
        let rest = &self.text[self.at..];
        let rest = &rest[..rest.len().min(MAX_WORD_BYTES)];
        let is_end = |byte: u8| is_space(byte) || matches!(byte, b',' | b'[' | b']' | b'{' | b'}');
        let len = rest.iter().position(|&byte| is_end(byte));
        &rest[..len.unwrap_or(rest.len())]
    }

    fn unexpected(&mut self, expected: &'static str) -> Error {
        let found = self.peek().map(|first| match self.word() {
            [] => char::from(first).to_string(),
            word => shown(&String::from_utf8_lossy(word)),
        });
        Error::Syntax {
            position: self.at,
            found,
            expected,
        }
    }
}

/// PostgreSQL's white space, vertical tab included.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// The beginning of a word.
fn shown(word: &str) -> String {
    match word.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &word[..end]),
        None => word.to_owned(),
    }
}
