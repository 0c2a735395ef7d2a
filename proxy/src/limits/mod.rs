//! Whether a request may go on: how much its address, its key and all keys together asked for lately, and what its key may
//! spend.
//!
//! A request is judged by all limits before any of them counts it, so that one that is refused costs nobody anything. What
//! a call will use is known at its end only: until then something is set aside for it ([`Demand`]), first by its head and
//! then by what its body asks for.
//!
//! Must not know how requests look, where limits are set, or what a model costs.

mod addresses;
mod demand;
mod exceeded;
mod headers;
mod holders;
mod month;
mod window;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::keys::ApiKey;
use crate::money::Money;
use crate::settings::Numbers;

use addresses::Addresses;
use holders::{Doings, Holder, Holders};
use window::{Age, Window};

pub(crate) use demand::Demand;
pub(crate) use exceeded::{Exceeded, Limit};
pub(crate) use headers::{Quota, Standing, whole_seconds};
pub(crate) use month::Month;

/// The window of token limits.
const MINUTE: Duration = Duration::from_secs(60);

/// Requests of all keys, and of one, that are told apart; beyond, to that part of the window.
const EXACT_GLOBAL: u32 = 4096;
const EXACT_KEY: u32 = 256;

/// How long to wait where what is in the way ends at no known time.
const SOON: Duration = Duration::from_secs(1);

/// Everything that is counted.
pub(crate) struct Limits {
    begin: Instant,
    addresses: Mutex<Addresses>,
    global: Mutex<Window>,
    holders: Mutex<Holders>,
}

/// What a key has spent, in the month that is now.
pub(crate) struct Spending<F: FnOnce() -> Money> {
    pub(crate) month: Month,
    /// Asked only where there is a budget.
    pub(crate) spent: F,
}

impl Limits {
    pub(crate) fn new() -> Self {
        Self {
            begin: Instant::now(),
            addresses: Mutex::default(),
            global: Mutex::default(),
            holders: Mutex::default(),
        }
    }

    fn age(&self) -> Age {
        u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Counts a request of this address, whoever it says to be.
    pub(crate) fn enter(&self, address: IpAddr, numbers: &Numbers) -> Result<(), Exceeded> {
        self.enter_at(self.age(), address, numbers)
    }

    fn enter_at(&self, now: Age, address: IpAddr, numbers: &Numbers) -> Result<(), Exceeded> {
        let (limit, length) = (numbers.ip_requests, numbers.ip_window);
        let mut addresses = locked(&self.addresses);
        let (window, dropped) = addresses.window(address, now, length);
        let within = requests(window, Limit::Address, limit, now, length);
        if within.is_ok() {
            addresses::add(window, now, length);
        }
        drop(addresses);
        drop(dropped);
        within
    }

    /// Counts a request of this key, if no limit is in its way, and sets aside what it demands until what comes back is
    /// dropped.
    pub(crate) fn admit(
        self: &Arc<Self>,
        key: &ApiKey,
        numbers: &Numbers,
        demand: Demand,
        spending: Spending<impl FnOnce() -> Money>,
    ) -> Result<Admitted, Exceeded> {
        self.admit_at(self.age(), key, numbers, demand, spending)
    }

    fn admit_at(
        self: &Arc<Self>,
        now: Age,
        key: &ApiKey,
        numbers: &Numbers,
        demand: Demand,
        spending: Spending<impl FnOnce() -> Money>,
    ) -> Result<Admitted, Exceeded> {
        let length = numbers.window;
        let holder = is_limited(key).then(|| locked(&self.holders).of(&key.id, now));
        // Locked until all is counted; always this one before that of all keys.
        let mut doings = holder.as_ref().map(|holder| holder.lock());
        if let Some(doings) = &mut doings {
            if let Some(limit) = key.rate_limit {
                requests(&mut doings.requests, Limit::Key, limit, now, length)?;
            }
            fits(doings, key, demand, spending, now)?;
        }
        let mut global = locked(&self.global);
        requests(&mut global, Limit::Global, numbers.requests, now, length)?;
        global.add(now, length, 1, EXACT_GLOBAL);
        let of_all = quota(&mut global, numbers.requests, now, length);
        drop(global);

        let mut standing = Standing { requests: of_all, tokens: None };
        if let Some(doings) = &mut doings {
            if let Some(limit) = key.rate_limit {
                doings.requests.add(now, length, 1, EXACT_KEY);
                standing.requests = quota(&mut doings.requests, limit, now, length);
                let empty_at = doings.requests.empty_at(length);
                doings.empty_at = doings.empty_at.max(empty_at);
            }
            doings.set_aside(demand);
            standing.tokens = key.tokens_per_minute.map(|limit| token_quota(doings, limit, now));
        }
        drop(doings);
        Ok(Admitted { limits: self.clone(), holder, at: now, demand, used: 0, standing })
    }

    /// How a key stands, without counting anything: requests, tokens, and the money that is set aside.
    pub(crate) fn standing(&self, key: &ApiKey, numbers: &Numbers) -> (Standing, Money) {
        let now = self.age();
        let length = numbers.window;
        let mut standing = Standing {
            requests: quota(&mut locked(&self.global), numbers.requests, now, length),
            tokens: None,
        };
        if !is_limited(key) {
            return (standing, Money::ZERO);
        }
        let holder = locked(&self.holders).of(&key.id, now);
        let mut doings = holder.lock();
        if let Some(limit) = key.rate_limit {
            standing.requests = quota(&mut doings.requests, limit, now, length);
        }
        standing.tokens = key.tokens_per_minute.map(|limit| token_quota(&mut doings, limit, now));
        (standing, doings.reserved_money)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_limited(key: &ApiKey) -> bool {
    key.rate_limit.is_some() || key.tokens_per_minute.is_some() || key.monthly_budget.is_some()
}

/// Whether one request more is within a limit.
fn requests(
    window: &mut Window,
    what: Limit,
    limit: u64,
    now: Age,
    length: Duration,
) -> Result<(), Exceeded> {
    if window.counted(now, length) < limit {
        return Ok(());
    }
    // A limit of none at all is never kept by waiting.
    let wait = limit.checked_sub(1).map_or(length, |most| window.until_at_most(most, now, length));
    Err(Exceeded { what, limit, remaining: 0, wait })
}

/// Whether a key may use and spend so much more.
fn fits(
    doings: &mut Doings,
    key: &ApiKey,
    demand: Demand,
    spending: Spending<impl FnOnce() -> Money>,
    now: Age,
) -> Result<(), Exceeded> {
    if let Some(limit) = key.tokens_per_minute {
        tokens(doings, limit, demand, now)?;
    }
    match key.monthly_budget {
        Some(limit) if demand.is_paid => budget(doings, limit, demand, spending),
        Some(_) | None => Ok(()),
    }
}

/// Whether a key may use so many tokens more. Calls that run at once never set aside more than is left together; only one
/// that is alone may demand more than that, while there is anything: it could never be answered otherwise. So the limit is
/// passed by no more than what calls in flight use beyond what was set aside for them, or what one uses that was alone.
fn tokens(doings: &mut Doings, limit: u64, demand: Demand, now: Age) -> Result<(), Exceeded> {
    let counted = doings.tokens.counted(now, MINUTE);
    let taken = counted.saturating_add(doings.reserved_tokens);
    let is_alone = doings.reserved_tokens == 0 && counted < limit;
    if demand.tokens() == 0 || is_alone || taken.saturating_add(demand.tokens()) <= limit {
        return Ok(());
    }
    // Nobody knows when the calls in flight end; but before this, not even one that is alone is let through.
    let wait = doings.tokens.until_at_most(limit.saturating_sub(1), now, MINUTE);
    let wait = if wait.is_zero() { SOON } else { wait };
    Err(Exceeded { what: Limit::Tokens, limit, remaining: limit.saturating_sub(taken), wait })
}

/// Whether a key may spend so much more; by the same rule as with tokens.
fn budget(
    doings: &Doings,
    limit: Money,
    demand: Demand,
    spending: Spending<impl FnOnce() -> Money>,
) -> Result<(), Exceeded> {
    // A call is paid for before what was set aside for it is given back, and that takes the lock that is held here: so
    // nothing is overlooked between the two.
    let spent = (spending.spent)();
    let reserved = doings.reserved_money;
    // What sets nothing aside, such as a look at the list of models, waits for nobody.
    let is_free = demand.money == Money::ZERO || reserved == Money::ZERO;
    if spent < limit && (is_free || spent + reserved + demand.money <= limit) {
        return Ok(());
    }
    let (what, wait) = if spent < limit {
        (Limit::BudgetInFlight, SOON)
    } else {
        (Limit::Budget, spending.month.left())
    };
    Err(Exceeded { what, limit: 0, remaining: 0, wait })
}

fn quota(window: &mut Window, limit: u64, now: Age, length: Duration) -> Quota {
    let remaining = limit.saturating_sub(window.counted(now, length));
    Quota { limit, remaining, reset: window.until_less(now, length) }
}

fn token_quota(doings: &mut Doings, limit: u64, now: Age) -> Quota {
    let taken = doings.tokens.counted(now, MINUTE).saturating_add(doings.reserved_tokens);
    let reset = doings.tokens.until_at_most(0, now, MINUTE);
    Quota { limit, remaining: limit.saturating_sub(taken), reset }
}

/// A request that was let through. What was set aside for it is given back when this is dropped, whatever ends it.
pub(crate) struct Admitted {
    limits: Arc<Limits>,
    holder: Option<Arc<Holder>>,
    /// When it was counted.
    at: Age,
    demand: Demand,
    used: u64,
    standing: Standing,
}

impl Admitted {
    /// How its key stood when it was let through.
    pub(crate) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Sets aside what is known by now that it will use, in the place of what was. If there is no room for that, it was not
    /// let through, and is not counted.
    pub(crate) fn set_aside(
        mut self,
        key: &ApiKey,
        demand: Demand,
        spending: Spending<impl FnOnce() -> Money>,
    ) -> Result<Self, Exceeded> {
        let Some(holder) = self.holder.clone() else { return Ok(self) };
        let now = self.limits.age();
        let mut doings = holder.lock();
        doings.give_back(std::mem::replace(&mut self.demand, Demand::NOTHING));
        if let Err(exceeded) = fits(&mut doings, key, demand, spending, now) {
            if key.rate_limit.is_some() {
                doings.requests.take_back(self.at);
            }
            drop(doings);
            locked(&self.limits.global).take_back(self.at);
            return Err(exceeded);
        }
        doings.set_aside(demand);
        self.demand = demand;
        self.standing.tokens =
            key.tokens_per_minute.map(|limit| token_quota(&mut doings, limit, now));
        Ok(self)
    }

    /// It has ended, and used so many tokens. What it cost must be in the ledger by now.
    pub(crate) fn end(mut self, tokens: u64) {
        self.used = tokens;
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let Some(holder) = &self.holder else { return };
        let now = self.limits.age();
        let mut doings = holder.lock();
        doings.give_back(self.demand);
        if self.standing.tokens.is_some() {
            doings.tokens.add(now, MINUTE, self.used, EXACT_KEY);
            let empty_at = doings.tokens.empty_at(MINUTE);
            doings.empty_at = doings.empty_at.max(empty_at);
        }
    }
}

#[cfg(test)]
mod tests;
