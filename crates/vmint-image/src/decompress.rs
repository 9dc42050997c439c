//! Compressed streams, told apart by their first bytes.
//!
//! They come from anybody. What a decoder holds is bounded before it is allocated: gzip's window is 32 KiB by its format,
//! zstd's and xz's may be as large as the packers' own largest settings make them. What comes out is not bounded here; a
//! few bytes may become as many as there is disk, and who reads has a budget.
//!
//! A zstd file is a row of frames, some of which are for others and are skipped (RFC 8878, 3.1.2): pzstd writes one before each
//! frame of data, and a layer of the kind zstd:chunked ends in two that hold its table of contents. They are read past, never held.

use lzma_rust2::XzReader;
use std::io::{self, BufReader, Cursor, Read};

/// Largest window of zstd: that of `--ultra --long=27`, and the most that `zstd -d` takes without being told to.
const ZSTD_WINDOW: u64 = 128 << 20;
/// Most memory of a decoder of xz, in KiB. `xz -9` needs 65 MiB; a dictionary may be 4 GiB.
const XZ_MEMORY: u32 = 130 << 10;
/// Most bytes that are decompressed in memory: kernels and their modules.
const IN_MEMORY: u64 = 1 << 30;

/// Reads a stream that is plain, or compressed with gzip, xz or zstd.
pub(crate) fn reader<'a>(mut input: impl Read + Send + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut magic = Vec::with_capacity(6);
    input.by_ref().take(6).read_to_end(&mut magic)?;
    let kind = Compression::of(&magic);
    let input = BufReader::with_capacity(1 << 16, Cursor::new(magic).chain(input));
    Ok(match kind {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Compression::Zstd => Box::new(ZstdReader::new(input)),
        Compression::Xz => Box::new(XzReader::new_mem_limit(input, true, XZ_MEMORY)),
    })
}

/// Decompresses bytes in memory.
pub(crate) fn bytes(input: &[u8]) -> io::Result<Vec<u8>> {
    let mut output = Vec::new();
    reader(input)?
        .take(IN_MEMORY + 1)
        .read_to_end(&mut output)?;
    if output.len() as u64 > IN_MEMORY {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(output)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Xz,
    Zstd,
}

impl Compression {
    fn of(magic: &[u8]) -> Self {
        if magic.starts_with(&[0x1f, 0x8b]) {
            Self::Gzip
        } else if magic.starts_with(b"\xfd7zXZ\0") {
            Self::Xz
        } else if magic.starts_with(&ZSTD) || is_skippable(magic) {
            Self::Zstd
        } else {
            Self::None
        }
    }
}

fn invalid(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("damaged compressed data: {error}"),
    )
}

/// How a frame of zstd begins.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Whether a frame for others begins here: 16 magic numbers are theirs.
fn is_skippable(magic: &[u8]) -> bool {
    matches!(magic, [first, 0x2a, 0x4d, 0x18, ..] if first & 0xf0 == 0x50)
}

/// A reader that can look ahead by the length of a magic number.
struct Ahead<R> {
    seen: Vec<u8>,
    input: R,
}

impl<R: Read> Ahead<R> {
    fn look(&mut self) -> io::Result<&[u8]> {
        let missing = ZSTD.len().saturating_sub(self.seen.len()) as u64;
        self.input
            .by_ref()
            .take(missing)
            .read_to_end(&mut self.seen)?;
        Ok(&self.seen)
    }
}

impl<R: Read> Read for Ahead<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.seen.is_empty() {
            return self.input.read(buffer);
        }
        let n = self.seen.len().min(buffer.len());
        buffer[..n].copy_from_slice(&self.seen[..n]);
        self.seen.drain(..n);
        Ok(n)
    }
}

type ZstdFrame<R> = ruzstd::decoding::StreamingDecoder<Ahead<R>, ruzstd::decoding::FrameDecoder>;

/// Reads one frame after the other.
enum ZstdReader<R: Read> {
    /// A frame begins here, or the file ends.
    Between(Ahead<R>),
    /// In a frame of data.
    Frame(Box<ZstdFrame<R>>),
    End,
    /// After an error nothing is known of where a frame begins.
    Broken,
}

impl<R: Read> ZstdReader<R> {
    fn new(input: R) -> Self {
        Self::Between(Ahead {
            seen: Vec::new(),
            input,
        })
    }

    /// Reads past what is for others, up to a frame of data or the end.
    fn next_frame(mut input: Ahead<R>) -> io::Result<Self> {
        loop {
            let magic = input.look()?;
            if magic.is_empty() {
                return Ok(Self::End);
            }
            if !is_skippable(magic) {
                let frame = ZstdFrame::new_with_max_window_size(input, ZSTD_WINDOW);
                return Ok(Self::Frame(Box::new(frame.map_err(invalid)?)));
            }
            let mut header = [0; 8];
            input.read_exact(&mut header)?;
            let length = u64::from(u32::from_le_bytes([
                header[4], header[5], header[6], header[7],
            ]));
            if io::copy(&mut input.by_ref().take(length), &mut io::sink())? < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

impl<R: Read> Read for ZstdReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            *self = match std::mem::replace(self, Self::Broken) {
                Self::Between(input) => Self::next_frame(input)?,
                Self::Frame(mut frame) => {
                    let n = frame.read(buffer)?;
                    if n > 0 || buffer.is_empty() {
                        *self = Self::Frame(frame);
                        return Ok(n);
                    }
                    Self::Between(frame.into_inner())
                }
                Self::End => {
                    *self = Self::End;
                    return Ok(0);
                }
                Self::Broken => return Err(invalid("an error came before")),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn sample() -> Vec<u8> {
        (0..300_000u32)
            .flat_map(|i| (i / 7).to_le_bytes())
            .collect()
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(data: &[u8]) -> Vec<u8> {
        use lzma_rust2::{XzOptions, XzWriter};
        let mut encoder = XzWriter::new(Vec::new(), XzOptions::with_preset(1)).unwrap();
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zst(data: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest)
    }

    /// A frame for others.
    fn skippable(number: u8, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap();
        [
            &[0x50 | number, 0x2a, 0x4d, 0x18],
            &length.to_le_bytes()[..],
            content,
        ]
        .concat()
    }

    #[test]
    fn frames_of_zstd_that_are_for_others_are_skipped() {
        let data = sample();
        let (first, second) = data.split_at(data.len() / 2);
        // Two as pzstd writes them, with the length of the frame that follows; and zstd:chunked, with a manifest and a footer.
        let length = |frame: &[u8]| skippable(0, &(frame.len() as u32).to_le_bytes());
        let pzstd: Vec<u8> = [zst(first), zst(second)]
            .iter()
            .flat_map(|frame| [length(frame), frame.clone()].concat())
            .collect();
        let chunked = [
            zst(first),
            zst(b""),
            zst(second),
            skippable(0, &zst(b"{\"version\":1}")),
            skippable(15, &[7; 72]),
        ]
        .concat();
        for (name, input) in [("pzstd", pzstd), ("zstd:chunked", chunked)] {
            assert!(bytes(&input).unwrap() == data, "{name}");
            for cut in [input.len() - 1, 10, 4] {
                assert!(bytes(&input[..cut]).is_err(), "{name}, cut at {cut}");
            }
        }
        assert_eq!(bytes(&skippable(3, b"x")).unwrap(), b"");
        // One that is of nobody's kind.
        assert!(bytes(&[zst(first), b"PK\x03\x04more".to_vec()].concat()).is_err());
    }

    #[test]
    fn a_flood_of_frames_to_skip_costs_no_memory_and_ends() {
        // A million empty ones, and one that claims 4 GiB.
        let flood = skippable(5, b"").repeat(1 << 20);
        assert_eq!(bytes(&flood).unwrap(), b"");
        let mut huge = vec![0x5f, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff];
        huge.extend_from_slice(&[0; 1000]);
        let error = bytes(&huge).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn every_compression_reads_as_the_plain_bytes() {
        let data = sample();
        // Two gzip members, zstd frames or xz streams are legal files.
        let (first, second) = data.split_at(data.len() / 2);
        let inputs = [
            data.clone(),
            gzip(&data),
            xz(&data),
            zst(&data),
            [gzip(first), gzip(second)].concat(),
            [zst(first), zst(second)].concat(),
            [xz(first), xz(second)].concat(),
        ];
        for (i, input) in inputs.into_iter().enumerate() {
            assert!(bytes(&input).unwrap() == data, "in memory, input {i}");
            let mut streamed = Vec::new();
            reader(Cursor::new(input))
                .unwrap()
                .read_to_end(&mut streamed)
                .unwrap();
            assert!(streamed == data, "streamed, input {i}");
        }
    }

    #[test]
    fn a_truncated_stream_is_an_error_and_never_an_end() {
        for whole in [gzip(&sample()), xz(&sample()), zst(&sample())] {
            let cut = whole[..whole.len() / 2].to_vec();
            assert!(bytes(&cut).is_err());
            let mut streamed = Vec::new();
            let read = reader(Cursor::new(cut)).and_then(|mut r| r.read_to_end(&mut streamed));
            assert!(read.is_err());
        }
    }

    #[test]
    fn empty_and_short_inputs_are_plain() {
        for input in [&b""[..], b"a", b"\x1f"] {
            let mut output = Vec::new();
            reader(Cursor::new(input.to_vec()))
                .unwrap()
                .read_to_end(&mut output)
                .unwrap();
            assert_eq!(output, input);
        }
    }
}
