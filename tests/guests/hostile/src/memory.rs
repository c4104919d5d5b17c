//! Looking through all of the guest's own linear memory: what was freed, what the allocator keeps, what the host wrote.

const PAGE: usize = 65_536;

/// The numbers of the needles that stand in memory, and how many bytes were looked at. Needles come with their bytes
/// inverted and are never turned back as a whole.
pub(crate) fn search(inverted: &[Vec<u8>]) -> (Vec<usize>, usize) {
    let bytes = size();
    let found = |needle: &[u8]| (1..=bytes.saturating_sub(needle.len())).any(|at| stands(needle, at));
    let numbers = inverted.iter().enumerate().filter(|(_, needle)| !needle.is_empty() && found(needle));
    (numbers.map(|(number, _)| number).collect(), bytes)
}

fn stands(inverted: &[u8], at: usize) -> bool {
    inverted.iter().enumerate().all(|(offset, byte)| !peek(at + offset) == *byte)
}

fn size() -> usize {
    core::arch::wasm32::memory_size(0) * PAGE
}

fn peek(address: usize) -> u8 {
    // Linear memory is one piece, and every address below its size can be read.
    unsafe { core::ptr::read_volatile(address as *const u8) }
}
