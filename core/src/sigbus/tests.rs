//! The handler, met by faults of every kind. What ends the process is done in a child.

use std::ffi::c_int;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::{env, ptr, thread};

use memmap2::MmapMut;
use tempfile::NamedTempFile;

use super::install_sigbus_handler;
use crate::error::Error;
use crate::pool::{CreateOptions, Pool};
use crate::units::{HUGE, LogicalRange, PAGE};
use crate::volume::Volume;

/// Says to a test that it is the child, and what to do there.
const CHILD: &str = "DAXITE_SIGBUS_CHILD";
const POOL_BYTES: u64 = 8 << 20;
/// What the former handler exits with.
const FORMER_EXIT: c_int = 42;

/// Runs the test `name` in a process of its own.
fn in_child(name: &str) -> ExitStatus {
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", &format!("sigbus::tests::{name}"), "--test-threads=1"]);
    child.env(CHILD, "1").output().unwrap().status
}

fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

/// A pool with a volume `v` of 2 MiB, whose file then loses everything behind the first 4 MiB.
fn pool_cut_off() -> (NamedTempFile, Pool, Volume) {
    let file = NamedTempFile::new().unwrap();
    let options = CreateOptions { len_bytes: POOL_BYTES, ..CreateOptions::default() };
    let pool = Pool::create(file.path(), &options).unwrap();
    let volume = pool.create_volume("v", HUGE).unwrap();
    volume.write(0, &[7; HUGE as usize]).unwrap();
    assert!(volume.map(LogicalRange::new(0, 1)).unwrap().physical().unwrap().0 >= POOL_BYTES / 2);
    file.as_file().set_len(POOL_BYTES / 2).unwrap();
    (file, pool, volume)
}

/// A mapping that is no pool's, of a file that is gone behind it.
fn someone_elses_mapping() -> MmapMut {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(PAGE).unwrap();
    // SAFETY: nobody else has the file.
    let mapping = unsafe { MmapMut::map_mut(file.as_file()) }.unwrap();
    file.as_file().set_len(0).unwrap();
    mapping
}

#[test]
fn every_access_of_the_layer_to_a_bad_page_is_an_error_and_the_process_goes_on() {
    install_sigbus_handler().unwrap();
    install_sigbus_handler().unwrap();
    let (_file, pool, volume) = pool_cut_off();
    let whole = LogicalRange::new(0, HUGE);
    let first = volume.map(whole).unwrap().physical().unwrap();
    let mut page = [0; PAGE as usize];
    for nth in 0..HUGE / PAGE {
        match volume.read(nth * PAGE + 9, &mut page[9..]) {
            Err(Error::MediaError { offset, len_bytes: PAGE, .. }) => {
                assert_eq!(offset, first.0 + nth * PAGE);
            }
            other => panic!("page {nth}: {other:?}"),
        }
    }
    assert!(matches!(volume.zero(LogicalRange::new(5, 9)), Err(Error::MediaError { .. })));
    assert!(pool.create_volume("w", HUGE).is_ok(), "the superblocks are still there");
}

#[test]
fn an_access_of_someone_else_ends_the_process() {
    if is_child() {
        install_sigbus_handler().unwrap();
        let mapping = someone_elses_mapping();
        std::hint::black_box(mapping[0]);
        return;
    }
    let status = in_child("an_access_of_someone_else_ends_the_process");
    assert_eq!(status.signal(), Some(libc::SIGBUS), "{status}");
}

#[test]
fn a_guarded_access_to_someone_elses_mapping_ends_the_process() {
    if is_child() {
        install_sigbus_handler().unwrap();
        let file = NamedTempFile::new().unwrap();
        let options = CreateOptions { len_bytes: POOL_BYTES, ..CreateOptions::default() };
        let pool = Pool::create(file.path(), &options).unwrap();
        let range = LogicalRange::new(0, HUGE);
        let (mut appender, _) =
            pool.create_volume("v", HUGE).unwrap().map_append(range, 1).unwrap();
        // What is appended comes from a bad page, which is not one of the pool.
        let _ = appender.append(&someone_elses_mapping()[..64]);
        return;
    }
    let status = in_child("a_guarded_access_to_someone_elses_mapping_ends_the_process");
    assert_eq!(status.signal(), Some(libc::SIGBUS), "{status}");
}

#[test]
fn an_access_to_a_pool_by_anyone_else_ends_the_process() {
    if is_child() {
        install_sigbus_handler().unwrap();
        let (_file, _pool, volume) = pool_cut_off();
        let guard = volume.map(LogicalRange::new(0, HUGE)).unwrap();
        std::hint::black_box(guard[0]);
        return;
    }
    let status = in_child("an_access_to_a_pool_by_anyone_else_ends_the_process");
    assert_eq!(status.signal(), Some(libc::SIGBUS), "{status}");
}

#[test]
fn without_the_handler_a_bad_page_ends_the_process() {
    if is_child() {
        let (_file, _pool, volume) = pool_cut_off();
        let _ = volume.read(0, &mut [0]);
        return;
    }
    let status = in_child("without_the_handler_a_bad_page_ends_the_process");
    assert_eq!(status.signal(), Some(libc::SIGBUS), "{status}");
}

#[test]
fn a_signal_that_is_sent_ends_the_process() {
    if is_child() {
        // The one of the standard library takes it for a fault that comes again.
        handle(libc::SIGBUS, libc::SIG_DFL, 0);
        install_sigbus_handler().unwrap();
        // SAFETY: raises a signal in this thread.
        unsafe { libc::raise(libc::SIGBUS) };
        return;
    }
    let status = in_child("a_signal_that_is_sent_ends_the_process");
    assert_eq!(status.signal(), Some(libc::SIGBUS), "{status}");
}

/// Handles `signal` by `handler`, with these flags.
fn handle(signal: c_int, handler: usize, flags: c_int) {
    // SAFETY: a sigaction is plain data, for which zeros are valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    // SAFETY: every caller passes a handler with the signature that its flags ask for.
    assert_eq!(unsafe { libc::sigaction(signal, &action, ptr::null_mut()) }, 0);
}

extern "C" fn exit_plainly(signal: c_int) {
    let known = signal == libc::SIGBUS;
    // SAFETY: may be called in a signal handler.
    unsafe { libc::_exit(if known { FORMER_EXIT } else { 1 }) }
}

extern "C" fn exit_with_info(signal: c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes what is known of the signal.
    let known = signal == libc::SIGBUS && unsafe { (*info).si_code } == libc::BUS_ADRERR;
    // SAFETY: may be called in a signal handler.
    unsafe { libc::_exit(if known { FORMER_EXIT } else { 1 }) }
}

#[test]
fn what_is_not_ours_goes_to_the_former_handler_of_either_kind() {
    if let Some(kind) = env::var_os(CHILD) {
        match kind == "1" {
            true => handle(libc::SIGBUS, exit_with_info as *const () as usize, libc::SA_SIGINFO),
            false => handle(libc::SIGBUS, exit_plainly as *const () as usize, 0),
        }
        install_sigbus_handler().unwrap();
        // Ours is handled by us all the same.
        let (_file, _pool, volume) = pool_cut_off();
        assert!(matches!(volume.read(0, &mut [0]), Err(Error::MediaError { .. })));
        std::hint::black_box(someone_elses_mapping()[0]);
        return;
    }
    for kind in ["1", "2"] {
        let mut child = Command::new(env::current_exe().unwrap());
        let name = "what_is_not_ours_goes_to_the_former_handler_of_either_kind";
        child.args(["--exact", &format!("sigbus::tests::{name}")]);
        let status = child.env(CHILD, kind).output().unwrap().status;
        assert_eq!(status.code(), Some(FORMER_EXIT), "kind {kind}: {status}");
    }
}

/// The volume that a signal handler reads.
static READ_BY_HANDLER: OnceLock<Volume> = OnceLock::new();
static HANDLER_GOT_ERROR: AtomicBool = AtomicBool::new(false);
static HANDLER_STACK: AtomicU64 = AtomicU64::new(0);

extern "C" fn read_bad_page(_: c_int) {
    let here = 0u8;
    HANDLER_STACK.store(&raw const here as u64, Ordering::Relaxed);
    let read = READ_BY_HANDLER.get().unwrap().read(0, &mut [0]);
    HANDLER_GOT_ERROR.store(matches!(read, Err(Error::MediaError { .. })), Ordering::Relaxed);
}

#[test]
fn a_fault_on_an_alternate_signal_stack_is_handled_there() {
    install_sigbus_handler().unwrap();
    let (_file, _pool, volume) = pool_cut_off();
    READ_BY_HANDLER.set(volume).ok().expect("set once");
    handle(libc::SIGUSR1, read_bad_page as *const () as usize, libc::SA_ONSTACK);
    thread::spawn(|| {
        let mut memory = vec![0u8; 256 << 10];
        let stack =
            libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: 0, ss_size: memory.len() };
        // SAFETY: the memory outlives the thread's use of it: the stack is taken away again below.
        assert_eq!(unsafe { libc::sigaltstack(&stack, ptr::null_mut()) }, 0);
        // SAFETY: raises a signal in this thread, whose handler runs on the stack just given, and in
        // it the one of SIGBUS.
        unsafe { libc::raise(libc::SIGUSR1) };
        let none = libc::stack_t { ss_flags: libc::SS_DISABLE, ..stack };
        // SAFETY: the stack is not in use.
        assert_eq!(unsafe { libc::sigaltstack(&none, ptr::null_mut()) }, 0);
        let used = HANDLER_STACK.load(Ordering::Relaxed);
        let range = memory.as_ptr() as u64..memory.as_ptr() as u64 + memory.len() as u64;
        assert!(range.contains(&used), "the handler ran on another stack");
    })
    .join()
    .unwrap();
    assert!(HANDLER_GOT_ERROR.load(Ordering::Relaxed));
}
