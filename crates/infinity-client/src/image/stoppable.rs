//! An image's bytes on their way into the decoder and out of the encoder, which end in an error once nobody waits.
//!
//! Decoders and encoders know nothing of cancelling; all they have in common is that they read and write. Not obvious:
//! the file lies in memory, but is handed out in pieces, because a kilobyte of a PNG may unfold to a megabyte of pixels.
//! The decoders of JPEG and lossy WebP take in the whole file first, so that they end with the one picture they are at,
//! whose pixels are bounded.

use std::io::{BufRead, Cursor, Read, Result, Seek, SeekFrom, Write};

use crate::worker::Stop;

/// The most a decoder gets at once, in bytes: up to four megabytes of pixels.
const PIECE_BYTES: usize = 4096;

/// The file a decoder reads.
pub(super) struct Input<'a> {
    file: Cursor<&'a [u8]>,
    stop: &'a Stop,
}

impl<'a> Input<'a> {
    pub(super) fn new(file: &'a [u8], stop: &'a Stop) -> Self {
        let file = Cursor::new(file);
        Input { file, stop }
    }
}

impl Read for Input<'_> {
    fn read(&mut self, to: &mut [u8]) -> Result<usize> {
        self.stop.check()?;
        let most = to.len().min(PIECE_BYTES);
        self.file.read(&mut to[..most])
    }
}

impl BufRead for Input<'_> {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        self.stop.check()?;
        let left = self.file.fill_buf()?;
        Ok(&left[..left.len().min(PIECE_BYTES)])
    }

    fn consume(&mut self, bytes: usize) {
        self.file.consume(bytes);
    }
}

impl Seek for Input<'_> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        self.stop.check()?;
        self.file.seek(to)
    }
}

/// What an encoder writes.
pub(super) struct Output<'a> {
    pub(super) bytes: Vec<u8>,
    stop: &'a Stop,
}

impl<'a> Output<'a> {
    pub(super) fn new(stop: &'a Stop) -> Self {
        let bytes = Vec::new();
        Output { bytes, stop }
    }
}

impl Write for Output<'_> {
    fn write(&mut self, from: &[u8]) -> Result<usize> {
        self.stop.check()?;
        self.bytes.write(from)
    }

    fn flush(&mut self) -> Result<()> {
        self.stop.check()
    }
}
