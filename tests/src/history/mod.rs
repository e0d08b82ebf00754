//! What threads asked of a store and what it answered, in one total order; and whether that can be.
//!
//! A store is seen as registers, which hold a number or nothing. Numbers are unique: each is written
//! by one operation. Knows nothing of how a store works, only of what it promises:
//! 1. Every operation happens at one moment between its call and its return. One that had not
//!    returned when the power failed happened before that, or never will.
//! 2. A write of several registers happens as a whole to every other write. Reads may see its
//!    registers change one after the other; but once one of them was seen, a crash leaves all.
//! 3. What is found after a crash is what the operations that happened have left, in such an order.
//!
//! `oracle.rs` judges long histories by less; this one tries all orders of a short one, and answers of reads
//! and refusals count.
//!
//! So a value that a read answered before a crash is not lost: the read has happened, and before it
//! the write.

mod search;
#[cfg(test)]
mod tests;

use std::fmt;

/// A place for a number: a key, or whether something was dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Register(pub usize);

/// What a register holds.
pub type Content = Option<u64>;

/// What an operation met in a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Met {
    /// Exactly this.
    Exactly(Content),
    /// Some number.
    Something,
}

/// What an operation does at its moment.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Effect {
    met: Vec<(Register, Met)>,
    left: Vec<(Register, Content)>,
    glances: bool,
}

impl Effect {
    /// It does nothing that anybody could notice.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// It only looks, and may see a write of several registers half done.
    pub fn glance() -> Self {
        Self { glances: true, ..Self::default() }
    }

    /// It also meets this.
    #[must_use]
    pub fn meets(mut self, register: Register, met: Met) -> Self {
        self.met.push((register, met));
        self
    }

    /// It also leaves this.
    ///
    /// # Panics
    /// If it only looks.
    #[must_use]
    pub fn leaves(mut self, register: Register, content: Content) -> Self {
        assert!(!self.glances, "a look leaves nothing");
        self.left.push((register, content));
        self
    }

    fn touches(&self, other: &Self) -> bool {
        let registers = |effect: &Self| -> Vec<Register> {
            let met = effect.met.iter().map(|(register, _)| *register);
            met.chain(effect.left.iter().map(|(register, _)| *register)).collect()
        };
        let of_other = registers(other);
        registers(self).iter().any(|register| of_other.contains(register))
    }
}

/// A call, and its return if there was one.
#[derive(Clone, Debug)]
struct Operation {
    what: String,
    called: u64,
    returned: Option<u64>,
    effect: Effect,
}

/// A call that was noted.
#[derive(Clone, Copy, Debug)]
#[must_use = "a call that is never noted to return is one that was under way"]
pub struct Call(usize);

/// All calls and returns so far.
#[derive(Clone, Debug)]
pub struct History {
    before: Vec<Content>,
    operations: Vec<Operation>,
    now: u64,
}

impl History {
    /// An empty one, of registers with these contents.
    pub fn new(before: Vec<Content>) -> Self {
        Self { before, operations: Vec::new(), now: 0 }
    }

    /// Notes a call, which has this effect if it ever happens.
    pub fn call(&mut self, what: String, effect: Effect) -> Call {
        let called = self.tick();
        self.operations.push(Operation { what, called, returned: None, effect });
        Call(self.operations.len() - 1)
    }

    /// Notes that a call returned; by its answer it had this effect.
    ///
    /// # Panics
    /// If it returned before.
    pub fn returned(&mut self, call: Call, effect: Effect) {
        let now = self.tick();
        let operation = &mut self.operations[call.0];
        assert_eq!(operation.returned, None, "returned twice");
        operation.returned = Some(now);
        operation.effect = effect;
    }

    /// Whether nothing contradicts the promises.
    ///
    /// # Errors
    /// The history, if something does.
    pub fn explain(&self) -> Result<(), String> {
        self.explain_with(None)
    }

    /// Whether the power could fail now and leave `found` in the registers.
    ///
    /// # Errors
    /// The history, if that cannot be.
    pub fn explain_found(&self, found: &[Content]) -> Result<(), String> {
        self.explain_with(Some(found))
    }

    fn explain_with(&self, found: Option<&[Content]>) -> Result<(), String> {
        if search::is_possible(&self.before, &self.operations, found) {
            return Ok(());
        }
        Err(match found {
            Some(found) => format!("nothing explains that {found:?} was found after{self}"),
            None => format!("no order explains{self}"),
        })
    }

    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n  at first {:?}", self.before)?;
        for Operation { what, called, returned, effect } in &self.operations {
            let returned = returned.map_or("...".to_string(), |at| at.to_string());
            write!(f, "\n  {called:3} to {returned:3} {what}: ")?;
            effect.met.iter().try_for_each(|(register, met)| match met {
                Met::Exactly(content) => write!(f, "met {content:?} in {}, ", register.0),
                Met::Something => write!(f, "met something in {}, ", register.0),
            })?;
            let mut left = effect.left.iter();
            left.try_for_each(|(register, left)| write!(f, "left {left:?} in {}, ", register.0))?;
        }
        Ok(())
    }
}
