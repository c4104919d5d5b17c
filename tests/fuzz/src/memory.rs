//! How many bytes a thread holds while it does something: the allocator of a test with a target counts them.

#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// A reader that holds so much takes the whole machine: nothing more is given, so that the process ends and not the machine.
const NEVER: i64 = 3 << 30;

thread_local! {
    static IS_COUNTED: Cell<bool> = const { Cell::new(false) };
    static HELD: Cell<i64> = const { Cell::new(0) };
    static MOST: Cell<i64> = const { Cell::new(0) };
}

/// What `work` gives, and the most bytes that this thread held at a time for it, in a program that is [counted](crate::counted).
pub fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    HELD.set(0);
    MOST.set(0);
    IS_COUNTED.set(true);
    let done = work();
    IS_COUNTED.set(false);
    (done, usize::try_from(MOST.get()).unwrap_or_default())
}

/// Whether that many bytes more may be held.
fn take(more: i64) -> bool {
    if IS_COUNTED.get() {
        let held = HELD.get() + more;
        if held > NEVER {
            return false;
        }
        HELD.set(held);
        MOST.set(MOST.get().max(held));
    }
    true
}

/// The system's allocator, which counts what a target holds. A program with targets says `airlock_fuzz::counted!()` once.
pub struct Counting;

/// Makes [`Counting`] the allocator of the program.
#[macro_export]
macro_rules! counted {
    () => {
        #[global_allocator]
        static COUNTED: $crate::Counting = $crate::Counting;
    };
}

// SAFETY: everything is done by the system's allocator with the very arguments that came; nothing is allocated here, and
// these thread locals need no destructor, so that they can be used as long as a thread lives.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match take(layout.size() as i64) {
            // SAFETY: see above.
            true => unsafe { System.alloc(layout) },
            false => std::ptr::null_mut(),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match take(layout.size() as i64) {
            // SAFETY: see above.
            true => unsafe { System.alloc_zeroed(layout) },
            false => std::ptr::null_mut(),
        }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match take(size as i64 - layout.size() as i64) {
            // SAFETY: see above.
            true => unsafe { System.realloc(place, layout, size) },
            false => std::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        take(-(layout.size() as i64));
        // SAFETY: see above.
        unsafe { System.dealloc(place, layout) }
    }
}
