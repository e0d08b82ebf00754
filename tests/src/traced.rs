//! Running code in a forked child, of whose system calls one fails.
//!
//! 1. What runs is the code that users run: the calls are met where they enter the kernel (ptrace),
//!    not behind a hook or a library function.
//! 2. Only calls between [`count_calls`] and its end count, and of those none that the allocator
//!    makes for itself: without memory a Rust program ends, whatever the library does.
//!    Nor do those of threads that the child starts, which are not followed.
//! 3. A call that fails is not made; but `close` is, as it closes even when it reports an error.
//! 4. No `msync` or `fsync` is made: they succeed at once, since no power fails here.
//!
//! The process that traces should have nothing else to do: see [`crate::Process`].

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::time::Duration;

use libc::{c_int, c_long, c_longlong, c_ulonglong, c_void, pid_t, user_regs_struct};

/// An option of `prctl` that no kernel knows: the calls after it count.
const COUNT: c_int = 0x0da4_17e1;
/// The calls after it do not count.
const COUNT_NO_MORE: c_int = 0x0da4_17e2;
/// What a child answers that cannot be traced.
const UNTRACEABLE: c_int = 125;
/// What a child answers that panicked.
const PANICKED: c_int = 101;
/// A child that runs longer hangs.
const HANG: Duration = Duration::from_secs(3);

/// A fault to inject.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The number of the call.
    pub number: c_long,
    /// How many of this number come before it, of those that count.
    pub nth: usize,
    /// What it answers.
    pub errno: c_int,
    /// Whether later calls fail.
    pub lasts: Lasts,
}

/// How long a fault lasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lasts {
    /// One call fails.
    Once,
    /// It fails, and all later ones of its kind.
    Always,
}

/// What a child did.
#[derive(Debug)]
pub struct Run {
    /// The numbers of the calls that count.
    pub calls: Vec<c_long>,
    /// Calls that failed on purpose.
    pub injected: u64,
    /// How it ended.
    pub end: End,
}

/// How a child ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It came to its end.
    Done,
    /// It panicked.
    Panicked,
    /// It exited by itself, with this code.
    Exited(c_int),
    /// This signal killed it.
    Killed(c_int),
    /// It was killed since it would not end.
    Hung,
}

/// Runs `act`, whose calls count.
pub fn count_calls<T>(act: impl FnOnce() -> T) -> T {
    // The first map of a thread asks for random bytes, and panics without any.
    drop(HashMap::<(), ()>::new());
    mark(COUNT);
    let result = act();
    mark(COUNT_NO_MORE);
    result
}

fn mark(mark: c_int) {
    // SAFETY: an unknown option is refused and changes nothing.
    unsafe { libc::prctl(mark) };
}

/// Runs `act` in a forked child, with `fault` if there is one. The child has only the calling thread.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] where a process may not trace its child; what forking and tracing
/// answer.
pub fn run(fault: Option<Fault>, act: impl FnOnce()) -> io::Result<Run> {
    // SAFETY: no other thread of this process is at work, so none holds a lock that the child needs.
    let child = check(unsafe { libc::fork() })?;
    if child == 0 {
        be_traced(act);
    }
    let mut tracer = Tracer { child, fault, calls: Vec::new(), injected: 0, mappings: Vec::new() };
    let end = tracer.follow()?;
    Ok(Run { calls: tracer.calls, injected: tracer.injected, end })
}

fn be_traced(act: impl FnOnce()) -> ! {
    // SAFETY: it takes no pointer that is looked at.
    let traced = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, ptr::null::<u8>(), 0) };
    let code = if traced == -1 {
        UNTRACEABLE
    } else {
        // SAFETY: the tracer waits for this stop.
        unsafe { libc::raise(libc::SIGSTOP) };
        // SAFETY: the signal ends this process, which is what it is for.
        unsafe { libc::alarm(HANG.as_secs() as u32) };
        catch_unwind(AssertUnwindSafe(act)).map_or(PANICKED, |()| 0)
    };
    // SAFETY: it ends this process without running what the parent registered for its own end.
    unsafe { libc::_exit(code) }
}

struct Tracer {
    child: pid_t,
    fault: Option<Fault>,
    calls: Vec<c_long>,
    injected: u64,
    /// Start and end of mappings that are not the allocator's.
    mappings: Vec<(u64, u64)>,
}

/// What is to be done when a call returns.
#[derive(Clone, Copy)]
enum AtExit {
    Nothing,
    /// Its result is a mapping of so many bytes.
    Note(u64),
    /// It answers this.
    Answer(c_longlong),
}

impl Tracer {
    fn follow(&mut self) -> io::Result<End> {
        let status = self.wait()?;
        if !libc::WIFSTOPPED(status) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the child cannot be traced"));
        }
        let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
        self.request(libc::PTRACE_SETOPTIONS, options as usize)?;
        let (mut counting, mut at_exit, mut signal) = (false, None, 0);
        loop {
            self.request(libc::PTRACE_SYSCALL, signal as usize)?;
            let status = self.wait()?;
            signal = 0;
            if libc::WIFEXITED(status) {
                return Ok(match libc::WEXITSTATUS(status) {
                    0 => End::Done,
                    PANICKED => End::Panicked,
                    code => End::Exited(code),
                });
            }
            if libc::WIFSIGNALED(status) {
                return Ok(match libc::WTERMSIG(status) {
                    libc::SIGALRM => End::Hung,
                    signal => End::Killed(signal),
                });
            }
            if libc::WSTOPSIG(status) != libc::SIGTRAP | 0x80 {
                signal = libc::WSTOPSIG(status);
                continue;
            }
            let mut registers = self.registers()?;
            at_exit = match at_exit {
                None => {
                    if registers.orig_rax as c_long == libc::SYS_prctl {
                        match registers.rdi as c_int {
                            COUNT => counting = true,
                            COUNT_NO_MORE => counting = false,
                            _ => {}
                        }
                    }
                    Some(self.enter(&mut registers, counting)?)
                }
                Some(AtExit::Nothing) => None,
                Some(AtExit::Note(len_bytes)) => {
                    // Errors are the last 4095 values, where no mapping is.
                    if (registers.rax as i64) > 0 {
                        self.mappings.push((registers.rax, registers.rax + len_bytes));
                    }
                    None
                }
                Some(AtExit::Answer(answer)) => {
                    registers.rax = answer as c_ulonglong;
                    self.set_registers(&registers)?;
                    None
                }
            };
        }
    }

    /// The child enters a call.
    fn enter(&mut self, registers: &mut user_regs_struct, counting: bool) -> io::Result<AtExit> {
        let number = registers.orig_rax as c_long;
        let is_ours = !self.is_of_the_runtime(number, registers);
        let fails = (is_ours && counting).then(|| self.count(number)).flatten();
        let answer = match number {
            _ if fails.is_some() => fails.map(|errno| -c_longlong::from(errno)),
            libc::SYS_msync | libc::SYS_fsync => Some(0),
            _ => None,
        };
        if answer.is_some() && number != libc::SYS_close {
            registers.orig_rax = c_ulonglong::MAX;
            self.set_registers(registers)?;
        }
        Ok(match answer {
            Some(answer) => AtExit::Answer(answer),
            None if is_ours && number == libc::SYS_mmap => AtExit::Note(registers.rsi),
            None => AtExit::Nothing,
        })
    }

    /// Counts the call, and answers how it fails, if it does.
    fn count(&mut self, number: c_long) -> Option<c_int> {
        let nth = self.calls.iter().filter(|call| **call == number).count();
        self.calls.push(number);
        let fault = self.fault?;
        let fails = number == fault.number
            && match fault.lasts {
                Lasts::Once => nth == fault.nth,
                Lasts::Always => nth >= fault.nth,
            };
        self.injected += u64::from(fails);
        fails.then_some(fault.errno)
    }

    /// Whether the allocator, a lock, or a check of the standard library makes this call, or it cannot
    /// fail.
    fn is_of_the_runtime(&self, number: c_long, registers: &user_regs_struct) -> bool {
        match number {
            libc::SYS_mmap => {
                let (protection, flags) = (registers.rdx as c_int, registers.r10 as c_int);
                let is_arena = protection == libc::PROT_NONE && flags & libc::MAP_STACK == 0;
                let is_plain = flags & (libc::MAP_NORESERVE | libc::MAP_STACK) == 0;
                flags & libc::MAP_ANONYMOUS != 0 && (is_arena || is_plain)
            }
            libc::SYS_munmap | libc::SYS_mprotect | libc::SYS_madvise | libc::SYS_msync => {
                let address = registers.rdi;
                !self.mappings.iter().any(|(start, end)| (*start..*end).contains(&address))
            }
            libc::SYS_brk
            | libc::SYS_prctl
            | libc::SYS_fcntl
            | libc::SYS_getpid
            | libc::SYS_prlimit64
            | libc::SYS_gettid
            | libc::SYS_mremap
            | libc::SYS_futex
            | libc::SYS_rt_sigprocmask
            | libc::SYS_rt_sigaction
            | libc::SYS_rt_sigreturn
            | libc::SYS_sigaltstack
            | libc::SYS_sched_yield
            | libc::SYS_restart_syscall
            | libc::SYS_exit_group => true,
            _ => false,
        }
    }

    fn wait(&self) -> io::Result<c_int> {
        let mut status = 0;
        // SAFETY: `status` is a place for an int.
        check(unsafe { libc::waitpid(self.child, &raw mut status, libc::__WALL) })?;
        Ok(status)
    }

    fn request(&self, request: libc::c_uint, data: usize) -> io::Result<()> {
        // SAFETY: the requests made here take a number, and no pointer.
        let answer = unsafe { libc::ptrace(request, self.child, ptr::null_mut::<c_void>(), data) };
        check(answer as c_int).map(|_| ())
    }

    fn registers(&self) -> io::Result<user_regs_struct> {
        // SAFETY: registers are integers, for which zeros are a value.
        let mut registers: user_regs_struct = unsafe { std::mem::zeroed() };
        let (request, place) = (libc::PTRACE_GETREGS, &raw mut registers);
        // SAFETY: the child is stopped, and the kernel fills a struct of this type.
        let answer = unsafe { libc::ptrace(request, self.child, ptr::null_mut::<c_void>(), place) };
        check(answer as c_int)?;
        Ok(registers)
    }

    fn set_registers(&self, registers: &user_regs_struct) -> io::Result<()> {
        let (request, place) = (libc::PTRACE_SETREGS, ptr::from_ref(registers));
        // SAFETY: the child is stopped, and the kernel reads a struct of this type.
        let answer = unsafe { libc::ptrace(request, self.child, ptr::null_mut::<c_void>(), place) };
        check(answer as c_int).map(|_| ())
    }
}

fn check(answer: c_int) -> io::Result<c_int> {
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}
