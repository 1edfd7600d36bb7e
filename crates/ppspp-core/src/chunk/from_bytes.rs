//! Addressing values from arbitrary bytes, for fuzz targets.

use arbitrary::{Arbitrary, Result, Unstructured};

use super::{Bin, ChunkRange, ChunkSize};

impl<'a> Arbitrary<'a> for ChunkRange {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self::new(u.arbitrary()?, u.arbitrary()?))
    }
}

impl<'a> Arbitrary<'a> for Bin {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self::from_number(u.arbitrary()?).unwrap_or(Self::EVERYTHING))
    }
}

impl<'a> Arbitrary<'a> for ChunkSize {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self::new(u.int_in_range(Self::MIN.bytes()..=Self::MAX.bytes())?).unwrap_or_default())
    }
}
