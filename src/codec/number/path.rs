//! Selects the path on which regions are decoded: the instruction set, or the fallback.

use std::fmt;
use std::str::FromStr;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", test, fuzzing))]
use super::vector;
use super::{Batch, Handler, NumberDecoder, portable};

/// A path of decoding numbers. All paths have the same results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecoderPath {
    /// Vectors of 64 bytes: AVX-512 with VBMI2.
    Avx512,
    /// Vectors of 32 bytes.
    Avx2,
    /// Vectors of 16 bytes, on aarch64.
    Neon,
    /// Plain Rust, for any processor.
    Fallback,
}

impl DecoderPath {
    /// All paths, the fastest first.
    pub const ALL: [DecoderPath; 4] =
        [DecoderPath::Avx512, DecoderPath::Avx2, DecoderPath::Neon, DecoderPath::Fallback];

    /// Returns the paths of this machine, the fastest first.
    pub fn available() -> impl Iterator<Item = DecoderPath> {
        DecoderPath::ALL.into_iter().filter(|&path| Path::detect(path).is_some())
    }

    /// Returns an error unless this machine has the path.
    pub(crate) fn check(self) -> Result<(), PathError> {
        Path::detect(self).map(|_| ()).ok_or(PathError(self))
    }

    /// Returns the name for settings: `avx2`.
    pub fn name(self) -> &'static str {
        match self {
            DecoderPath::Avx512 => "avx512",
            DecoderPath::Avx2 => "avx2",
            DecoderPath::Neon => "neon",
            DecoderPath::Fallback => "fallback",
        }
    }
}

impl fmt::Display for DecoderPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DecoderPath::Avx512 => "AVX-512",
            DecoderPath::Avx2 => "AVX2",
            DecoderPath::Neon => "NEON",
            DecoderPath::Fallback => "the fallback",
        })
    }
}

impl FromStr for DecoderPath {
    type Err = String;

    fn from_str(name: &str) -> Result<DecoderPath, String> {
        DecoderPath::ALL.into_iter().find(|path| path.name() == name).ok_or_else(|| {
            let names = DecoderPath::ALL.map(DecoderPath::name).join(", ");
            format!("there is no decoder \"{}\", expected one of {names}", name.escape_default())
        })
    }
}

/// The error of a path that this machine does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathError(pub(super) DecoderPath);

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = DecoderPath::available().map(DecoderPath::name).collect();
        write!(f, "this machine has no {}, expected one of {}", self.0, names.join(", "))
    }
}

impl std::error::Error for PathError {}

/// A path that the machine has.
#[derive(Clone, Copy, Debug)]
pub(super) enum Path {
    #[cfg(target_arch = "x86_64")]
    Avx512(vector::avx512::Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(vector::avx2::Avx2),
    #[cfg(target_arch = "aarch64")]
    Neon(vector::neon::Neon),
    Portable,
    /// The path of short limits of a line, and the reference for tests.
    ByteByByte,
    /// The code of the AVX-512 path on intrinsics in plain Rust.
    #[cfg(any(test, fuzzing))]
    Avx512Emulated(vector::avx512_emulated::Avx512),
}

impl Path {
    /// Returns the path, or `None` if the machine does not have it.
    pub(super) fn detect(path: DecoderPath) -> Option<Path> {
        match path {
            #[cfg(target_arch = "x86_64")]
            DecoderPath::Avx512 => vector::avx512::Avx512::detect().map(Path::Avx512),
            #[cfg(target_arch = "x86_64")]
            DecoderPath::Avx2 => vector::avx2::Avx2::detect().map(Path::Avx2),
            #[cfg(target_arch = "aarch64")]
            DecoderPath::Neon => Some(Path::Neon(vector::neon::Neon)),
            DecoderPath::Fallback if portable::HAS_VECTORS => Some(Path::Portable),
            DecoderPath::Fallback => Some(Path::ByteByByte),
            _ => None,
        }
    }

    /// Returns all paths of the machine and those that are emulated, to compare their results.
    pub(super) fn all() -> impl Iterator<Item = Path> {
        [Path::ByteByByte, Path::Portable].into_iter().chain(Path::in_blocks())
    }

    /// Returns the paths of [`all`](Self::all) that decode in blocks of an instruction set.
    pub(super) fn in_blocks() -> impl Iterator<Item = Path> {
        let all = DecoderPath::ALL.into_iter().filter(|&path| path != DecoderPath::Fallback);
        let all = all.filter_map(Path::detect);
        #[cfg(any(test, fuzzing))]
        let all = all.chain(vector::avx512_emulated::Avx512::detect().map(Path::Avx512Emulated));
        all
    }

    /// Returns the fastest path of the machine.
    pub(super) fn fastest() -> Path {
        DecoderPath::ALL.into_iter().find_map(Path::detect).expect("all machines have the fallback")
    }

    pub(super) fn name(self) -> DecoderPath {
        match self {
            #[cfg(target_arch = "x86_64")]
            Path::Avx512(_) => DecoderPath::Avx512,
            #[cfg(target_arch = "x86_64")]
            Path::Avx2(_) => DecoderPath::Avx2,
            #[cfg(target_arch = "aarch64")]
            Path::Neon(_) => DecoderPath::Neon,
            Path::Portable | Path::ByteByByte => DecoderPath::Fallback,
            #[cfg(any(test, fuzzing))]
            Path::Avx512Emulated(_) => DecoderPath::Avx512,
        }
    }

    /// Decodes all lines of a region, and returns their number.
    #[inline]
    pub(super) fn decode<V: Handler<NumberDecoder>>(
        self,
        decoder: &NumberDecoder,
        region: &[u8],
        batch: &mut Batch<'_, V>,
    ) -> u64 {
        match self {
            #[cfg(target_arch = "x86_64")]
            Path::Avx512(set) => in_blocks(decoder, region, batch, |start, batch| {
                set.decode(decoder, region, start, batch)
            }),
            #[cfg(target_arch = "x86_64")]
            Path::Avx2(set) => in_blocks(decoder, region, batch, |start, batch| {
                set.decode(decoder, region, start, batch)
            }),
            #[cfg(target_arch = "aarch64")]
            Path::Neon(set) => in_blocks(decoder, region, batch, |start, batch| {
                set.decode(decoder, region, start, batch)
            }),
            Path::Portable => decoder.decode_portably(region, batch),
            Path::ByteByByte => decoder.decode_bytes(region, batch),
            #[cfg(any(test, fuzzing))]
            Path::Avx512Emulated(set) => in_blocks(decoder, region, batch, |start, batch| {
                set.decode(decoder, region, start, batch)
            }),
        }
    }
}

/// Decodes a region in blocks, and the lines too close to its ends byte by byte.
///
/// `decode` takes the start of the first line, and returns the number of lines and the start of the next.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", test, fuzzing))]
fn in_blocks<V: Handler<NumberDecoder>>(
    decoder: &NumberDecoder,
    region: &[u8],
    batch: &mut Batch<'_, V>,
    decode: impl FnOnce(usize, &mut Batch<'_, V>) -> (u64, usize),
) -> u64 {
    let Some(start) = vector::first_line(region, decoder.framing.delimiter()) else {
        return decoder.decode_bytes(region, batch);
    };
    let before = decoder.decode_bytes(&region[..start], batch);
    let (lines, end) = decode(start, batch);
    before + lines + decoder.decode_bytes(&region[end..], batch)
}
