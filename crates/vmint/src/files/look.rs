//! What a guest answers when it is asked what is at a path: an archive of one header.
//!
//! A guest may send what it likes, and without an end. No more is taken than a header can be.

use super::place::There;
use std::fmt;
use std::io;
use vmint_protocol::archive::{EntryKind, Item, MAX_NAME, Parser};

/// The header of a file whose name is as long as names get, and the archive's end, in blocks of 512 bytes.
const MOST: usize = MAX_NAME + 8 * 512;

/// The answer, as far as it has come.
#[derive(Debug, Default)]
pub(super) struct Answer(Vec<u8>);

/// Why an answer is none.
#[derive(Debug)]
pub(super) struct Strange(String);

impl fmt::Display for Strange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Answer {
    /// Takes the next bytes. An error ends the stream; [`read`](Self::read) then says why.
    pub(super) fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = (MOST + 1).saturating_sub(self.0.len());
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if self.is_too_long() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(())
    }

    /// Whether more came than an answer can be.
    pub(super) fn is_too_long(&self) -> bool {
        self.0.len() > MOST
    }

    /// What it says.
    pub(super) fn read(&self) -> Result<There, Strange> {
        if self.is_too_long() {
            return Err(Strange("its answer does not end".into()));
        }
        let (mut parser, mut rest) = (Parser::default(), &self.0[..]);
        loop {
            match parser.next(&mut rest) {
                Ok(Some(Item::Entry(entry))) => {
                    return Ok(match entry.kind {
                        EntryKind::Directory => There::Folder,
                        EntryKind::File => There::File(entry.path),
                        _ => There::Special,
                    });
                }
                Ok(Some(_)) => {}
                Ok(None) => return Err(Strange("its answer is cut short".into())),
                Err(e) => return Err(Strange(e.to_string())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: tar::EntryType, name: &str) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_data(&mut header, name, io::empty()).unwrap();
        builder.into_inner().unwrap()
    }

    fn answered(pieces: &[&[u8]]) -> Result<There, String> {
        let mut answer = Answer::default();
        for piece in pieces {
            if answer.take(piece).is_err() {
                break;
            }
        }
        answer.read().map_err(|e| e.to_string())
    }

    #[test]
    fn a_header_says_what_is_there_in_whatever_pieces_it_comes() {
        let long = "a/".repeat(2000) + "b";
        for name in ["srv/real", &long] {
            let bytes = header(tar::EntryType::Regular, name);
            let wanted = Ok(There::File(name.into()));
            assert_eq!(answered(&[&bytes]), wanted);
            let pieces: Vec<&[u8]> = bytes.chunks(7).collect();
            assert_eq!(answered(&pieces), wanted);
        }
        let bytes = header(tar::EntryType::Directory, "srv");
        assert_eq!(answered(&[&bytes]), Ok(There::Folder));
        let bytes = header(tar::EntryType::Char, "dev/null");
        assert_eq!(answered(&[&bytes]), Ok(There::Special));
    }

    #[test]
    fn what_does_not_end_is_given_up_and_not_gathered() {
        let mut answer = Answer::default();
        let flood = vec![b'x'; 1 << 20];
        let taken = (0..1000).take_while(|_| answer.take(&flood[..600]).is_ok());
        assert!(taken.count() < 100);
        assert!(answer.take(&flood).is_err());
        assert_eq!(answer.0.len(), MOST + 1);
        assert_eq!(
            answer.read().unwrap_err().to_string(),
            "its answer does not end"
        );
        assert_eq!(answered(&[]), Err("its answer is cut short".into()));
        assert!(answered(&[&[7; 512]]).unwrap_err().contains("checksum"));
    }
}
