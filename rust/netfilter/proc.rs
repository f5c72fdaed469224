// SPDX-License-Identifier: GPL-2.0-only

//! Files of a namespace below `/proc/net/stat`.
//!
//! C headers: [`include/linux/proc_fs.h`](srctree/include/linux/proc_fs.h),
//! [`include/linux/seq_file_net.h`](srctree/include/linux/seq_file_net.h)

use super::{bindings, Net};
use core::ptr::{null_mut, NonNull};
use kernel::{ffi, prelude::*, seq_file::SeqFile};

/// What stands in a file.
pub trait Show: 'static {
    /// The name of the file.
    const NAME: &'static CStr;

    /// Writes the contents for `net` to `out`. What does not fit is written anew into a larger
    /// buffer: this is called once more.
    fn show(net: &Net, out: &SeqFile);
}

/// # Safety
///
/// To be called by procfs only, for a file that `proc_create_net_single` has made.
unsafe extern "C" fn show<T: Show>(
    seq: *mut bindings::seq_file,
    _token: *mut ffi::c_void,
) -> ffi::c_int {
    // SAFETY: An open file keeps its namespace, and is locked while it is read.
    let (net, out) = unsafe {
        (
            Net::from_raw(bindings::rust_helper_seq_file_single_net(seq)),
            SeqFile::from_raw(seq),
        )
    };
    T::show(net, out);
    0
}

/// A file that everybody may read.
///
/// # Invariants
///
/// The entry is in procfs as long as the value lives.
pub struct File(NonNull<bindings::proc_dir_entry>);

// SAFETY: procfs removes on any CPU.
unsafe impl Send for File {}
// SAFETY: There is nothing to be done with a shared reference.
unsafe impl Sync for File {}

impl File {
    /// Makes the file of `T` for `net`; it can be read at once.
    ///
    /// # Safety
    ///
    /// The value must be dropped before `net` goes, or what `T` shows.
    ///
    /// # Errors
    ///
    /// `ENOENT` when the namespace has no `/proc/net/stat`, `ENOMEM` when the file cannot be made.
    pub(super) unsafe fn new<T: Show>(net: &Net) -> Result<Self> {
        // SAFETY: `net` is valid, and its directory lives longer than our file, which is made and
        // removed while the namespace has it. The name is copied.
        let entry = unsafe {
            let dir = bindings::rust_helper_proc_net_stat(net.as_raw());
            // Without a parent the file would come to stand in /proc itself.
            if dir.is_null() {
                return Err(ENOENT);
            }
            bindings::proc_create_net_single(
                T::NAME.as_char_ptr(),
                0o444,
                dir,
                Some(show::<T>),
                null_mut(),
            )
        };
        // INVARIANT: Just made.
        NonNull::new(entry).map(Self).ok_or(ENOMEM)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // Waits for those who are reading; who has the file still open reads nothing more.
        // SAFETY: There, by the invariant.
        unsafe { bindings::proc_remove(self.0.as_ptr()) }
    }
}
