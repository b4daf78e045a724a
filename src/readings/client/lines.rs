//! Lines out of chunks of bytes.

use bytes::{Buf as _, Bytes, BytesMut};

/// Collects bytes until they make a line.
#[derive(Debug)]
pub(super) struct LineBuffer {
    bytes: BytesMut,
    /// Bytes known to hold no newline.
    searched: usize,
    longest: usize,
}

/// A line grew beyond the limit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl LineBuffer {
    pub(super) fn new(longest: usize) -> Self {
        Self { bytes: BytesMut::new(), searched: 0, longest }
    }

    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.bytes.extend_from_slice(chunk);
    }

    /// The next whole line without its newline; `None` when more bytes are needed.
    pub(super) fn next_line(&mut self) -> Result<Option<Bytes>, TooLong> {
        let Some(at) = self.bytes[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = self.bytes.len();
            return if self.searched > self.longest { Err(TooLong) } else { Ok(None) };
        };
        let end = self.searched + at;
        if end > self.longest {
            return Err(TooLong);
        }
        let line = self.bytes.split_to(end).freeze();
        self.bytes.advance(1);
        self.searched = 0;
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(longest: usize, chunks: &[&str]) -> Result<Vec<String>, TooLong> {
        let mut buffer = LineBuffer::new(longest);
        let mut lines = Vec::new();
        for chunk in chunks {
            buffer.push(chunk.as_bytes());
            while let Some(line) = buffer.next_line()? {
                lines.push(String::from_utf8(line.to_vec()).unwrap());
            }
        }
        Ok(lines)
    }

    #[test]
    fn joins_chunks_and_splits_lines() {
        assert_eq!(
            lines(9, &["on", "e\ntwo\n\nth", "ree\nrest"]).unwrap(),
            ["one", "two", "", "three"]
        );
    }

    #[test]
    fn refuses_a_line_beyond_the_limit_before_it_ends() {
        assert_eq!(lines(4, &["four\n"]).unwrap(), ["four"]);
        assert_eq!(lines(4, &["five!\n"]), Err(TooLong));
        assert_eq!(lines(4, &["fi", "ve!"]), Err(TooLong));
    }
}
