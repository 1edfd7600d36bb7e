//! Addressing: bins, runs of chunks, geometry.

use ppspp_core::chunk::{Bin, ChunkIndex, ChunkRange, ChunkSize, Geometry, GroupIndex};

use super::input::Input;

/// Does arithmetic with numbers of the input's choice and checks the laws.
pub fn bin_ops(data: &[u8]) {
    let mut input = Input::new(data);
    let bins = [input.u64(), input.u64()].map(|number| Bin::from_number(number).unwrap_or(Bin::EVERYTHING));
    let range = input.range();
    bin_laws(bins[0], input.u8());
    bin_laws(bins[1], input.u8());
    pair_laws(bins[0], bins[1]);
    run_laws(range);
    geometry_laws(&mut input);
}

fn bin_laws(bin: Bin, layer: u8) {
    let base = bin.base_range();
    assert_eq!(base.count(), 1 << bin.layer());
    assert_eq!(Bin::spanning(base), Some(bin));
    assert_eq!(Bin::largest_prefix(base), Some(bin));
    assert_eq!(Bin::at(bin.layer(), bin.offset()), Some(bin));
    assert_eq!(Bin::from_number(bin.number()), Some(bin));
    assert_eq!(bin.is_leaf(), bin.layer() == 0);
    if let Some(parent) = bin.parent() {
        let Some(sibling) = bin.sibling() else { panic!("{bin:?} has a parent and no sibling") };
        let (left, right) = if bin.is_left() { (bin, sibling) } else { (sibling, bin) };
        assert_eq!(parent.children(), Some((left, right)));
        assert_eq!(sibling.sibling(), Some(bin));
        assert_eq!(left.base_range().end(), right.base_range().start());
        assert!(parent.contains(bin) && !bin.contains(parent));
    } else {
        assert_eq!(bin, Bin::EVERYTHING);
        assert_eq!(bin.sibling(), None);
    }
    if let Some((left, right)) = bin.children() {
        assert_eq!((left.parent(), right.parent()), (Some(bin), Some(bin)));
    }
    let ancestor = bin.ancestor(layer);
    assert!(ancestor.contains(bin));
    assert_eq!(ancestor.layer(), layer.max(bin.layer()).min(Bin::MAX_LAYER));
}

fn pair_laws(a: Bin, b: Bin) {
    let (over, under) = (a.base_range(), b.base_range());
    // Two nodes of a tree are nested or apart.
    assert_eq!(over.intersects(under), a.contains(b) || b.contains(a));
    assert_eq!(a.contains(b), b.ancestor(a.layer()) == a && a.layer() >= b.layer());
    assert_eq!(a == b, a.contains(b) && b.contains(a));
}

fn run_laws(range: ChunkRange) {
    let named = range.intersection(Bin::EVERYTHING.base_range());
    let mut rest = named;
    for _ in 0..126 {
        let Some(bin) = Bin::largest_prefix(rest) else { break };
        assert!(rest.covers(bin.base_range()));
        assert_eq!(bin.base_range().start(), rest.start());
        let larger = bin.parent().filter(|parent| parent.base_range().start() == rest.start());
        assert!(larger.is_none_or(|parent| !rest.covers(parent.base_range())));
        rest = ChunkRange::new(bin.base_range().end(), rest.end());
    }
    assert!(rest.is_empty(), "{range:?} is more than 126 bins");
    let spanning = Bin::spanning(named);
    assert!(spanning.is_none_or(|bin| bin.base_range() == named));
}

fn geometry_laws(input: &mut Input<'_>) {
    let size = ChunkSize::MIN.bytes() + u32::from(input.u16()) % (ChunkSize::MAX.bytes() - ChunkSize::MIN.bytes() + 1);
    let (Ok(size), shift) = (ChunkSize::new(size), input.u8() % 64) else { panic!("{size} bytes were refused") };
    let length = input.u64() >> shift;
    let Ok(geometry) = Geometry::new(length, size) else {
        assert!(length == 0 || length > i64::MAX as u64, "{length} bytes were refused");
        return;
    };
    let chunks = geometry.chunk_count();
    assert_eq!(geometry.content_length(), Some(length));
    assert_eq!(geometry.byte_range(geometry.all()), 0..length);
    let Some(last_len) = geometry.chunk_len(geometry.last_chunk()) else { panic!("the last chunk has no length") };
    assert!((1..=size.bytes()).contains(&last_len));
    let unsized_twin = Geometry::of_chunks(chunks, size).map(|twin| twin.with_last_len(last_len));
    assert_eq!(unsized_twin, Ok(Some(geometry)));
    let peaks: Vec<Bin> = geometry.peaks().collect();
    assert_eq!(peaks.len(), chunks.count_ones() as usize);
    let mut end = 0;
    for peak in &peaks {
        assert_eq!(peak.base_range().start(), end);
        end = peak.base_range().end();
        assert!(geometry.root().contains(*peak));
        assert_eq!(geometry.peak_of(ChunkIndex::new(end - 1)), Some(*peak));
    }
    assert_eq!(end, chunks);
    let chunk = ChunkIndex::new(input.u64() >> shift);
    let group = geometry.group_of(chunk);
    let inside = chunk.value() < chunks;
    assert_eq!(geometry.group_chunks(group).contains(chunk), inside);
    assert_eq!(geometry.peak_of(chunk).is_some(), inside);
    assert_eq!(geometry.chunk_len(chunk).is_some(), inside);
    assert!(geometry.group_chunks(GroupIndex::new(geometry.group_count())).is_empty());
    let range = ChunkRange::new(chunk.value(), chunk.value().saturating_add(u64::from(input.u16())));
    let touched: Vec<GroupIndex> = geometry.groups_touching(range).take(1 << 17).collect();
    let ends = (touched.first(), touched.last());
    if let (Some(first), Some(last)) = ends {
        assert_eq!(*first, group);
        assert_eq!(last.value() - first.value() + 1, touched.len() as u64);
        assert!(range.intersects(geometry.group_chunks(*last)));
    } else {
        assert!(range.intersection(geometry.all()).is_empty());
    }
}
