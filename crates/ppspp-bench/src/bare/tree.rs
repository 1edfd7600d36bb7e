//! Interior nodes, hashed as the chunks come.

use ppspp_core::integrity::{Hash, HashFunction};

/// A Merkle tree in order: one waiting left child per layer.
#[derive(Debug)]
pub(super) struct InOrderTree {
    function: HashFunction,
    waiting: Vec<Option<Hash>>,
}

impl InOrderTree {
    pub(super) fn new(function: HashFunction) -> Self {
        Self { function, waiting: Vec::new() }
    }

    pub(super) fn push(&mut self, chunk: &[u8]) {
        let mut hash = self.function.leaf(chunk);
        for slot in &mut self.waiting {
            let Some(left) = slot.take() else {
                *slot = Some(hash);
                return;
            };
            hash = self.function.node(left.as_slice(), hash.as_slice());
        }
        self.waiting.push(Some(hash));
    }

    /// The hash of the highest complete node: the root if the number of chunks is a power of two.
    pub(super) fn top(&self) -> Option<Hash> {
        self.waiting.last().copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_of_eight_chunks_is_their_root() {
        let function = HashFunction::Sha256;
        let mut tree = InOrderTree::new(function);
        assert!(tree.top().is_none());
        let chunks: Vec<[u8; 16]> = (0..8).map(|n| [n; 16]).collect();
        for chunk in &chunks {
            tree.push(chunk);
        }
        let mut layer: Vec<Hash> = chunks.iter().map(|chunk| function.leaf(chunk)).collect();
        while layer.len() > 1 {
            layer = layer.chunks(2).map(|pair| function.node(pair[0].as_slice(), pair[1].as_slice())).collect();
        }
        assert_eq!(tree.top(), Some(layer[0]));
    }
}
