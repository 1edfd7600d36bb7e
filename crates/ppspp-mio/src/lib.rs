//! Shares and fetches files with PPSPP (RFC 7574) over real UDP sockets.

pub mod cache;
pub mod file;
pub mod hashing;
pub mod link;
pub mod source;
pub mod store;
#[cfg(test)]
mod testing;
mod tree_file;
