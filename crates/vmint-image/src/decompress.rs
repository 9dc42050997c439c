//! Compressed streams, told apart by their first bytes.
//!
//! They come from anybody. What a decoder holds is bounded before it is allocated: gzip's window is 32 KiB by its format,
//! zstd's and xz's may be as large as the packers' own largest settings make them. What comes out is not bounded here; a
//! few bytes may become as many as there is disk, and who reads has a budget.

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
        Compression::Zstd => Box::new(ZstdReader {
            frame: Some(zstd(input)?),
        }),
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
        } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
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

type ZstdFrame<R> = ruzstd::decoding::StreamingDecoder<R, ruzstd::decoding::FrameDecoder>;

fn zstd<R: Read>(input: R) -> io::Result<ZstdFrame<R>> {
    ruzstd::decoding::StreamingDecoder::new_with_max_window_size(input, ZSTD_WINDOW)
        .map_err(invalid)
}

/// Reads one frame after the other; a zstd file may have several.
struct ZstdReader<R: Read> {
    frame: Option<ZstdFrame<R>>,
}

impl<R: io::BufRead> Read for ZstdReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(frame) = &mut self.frame else {
                return Ok(0);
            };
            let n = frame.read(buffer)?;
            if n > 0 || buffer.is_empty() {
                return Ok(n);
            }
            let mut input = self.frame.take().expect("just read from").into_inner();
            if !input.fill_buf()?.is_empty() {
                self.frame = Some(zstd(input)?);
            }
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
