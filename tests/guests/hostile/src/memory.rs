//! Looking through all of the guest's own linear memory: what was freed, what the allocator keeps, what the host wrote.

const PAGE: usize = 65_536;

/// The numbers of the needles that stand in memory, and how many bytes were looked at. Needles come with their bytes
/// inverted and are never turned back as a whole.
pub(crate) fn search(inverted: &[Vec<u8>]) -> (Vec<usize>, usize) {
    let bytes = core::arch::wasm32::memory_size(0) * PAGE;
    let mut beginnings = [false; 256];
    for needle in inverted {
        needle.first().iter().for_each(|byte| beginnings[usize::from(**byte)] = true);
    }
    let mut found = vec![false; inverted.len()];
    for at in 1..bytes {
        if beginnings[usize::from(!peek(at))] {
            for (found, needle) in found.iter_mut().zip(inverted) {
                *found = *found || at + needle.len() <= bytes && stands(needle, at);
            }
        }
    }
    ((0..found.len()).filter(|&number| found[number]).collect(), bytes)
}

fn stands(inverted: &[u8], at: usize) -> bool {
    inverted.iter().enumerate().all(|(offset, byte)| !peek(at + offset) == *byte)
}

fn peek(address: usize) -> u8 {
    // Linear memory is one piece, and every address below its size can be read.
    unsafe { core::ptr::read_volatile(address as *const u8) }
}
