//! What the server does in one go.

use crate::redis::Script;

/// Answers form and secret of the log; makes them where there is none.
const OPEN: &str = "
redis.call('HSETNX', KEYS[1], 'form', ARGV[1])
redis.call('HSETNX', KEYS[1], 'secret', ARGV[2])
local head = redis.call('HMGET', KEYS[1], 'form', 'secret')
return {tonumber(head[1]), head[2]}
";

/// What a card is, and the names of keys. Places are whole numbers below 2^53.
const COMMON: &str = "
local cards, blocks = KEYS[1] .. ':cards', KEYS[1] .. ':blocks'
local function text(number) return string.format('%.0f', number) end
local function parts(card)
  local first, many, least, most = string.match(card, '^(%d+) (%d+) (%-?%d+) (%-?%d+)$')
  return tonumber(first), tonumber(many), tonumber(least), tonumber(most)
end
local function file(first, many, least, most, body)
  redis.call('ZADD', cards, text(first), text(first) .. ' ' .. many .. ' ' .. least .. ' ' .. most)
  redis.call('HSET', blocks, text(first), body)
end
local function drop(card, first)
  redis.call('ZREM', cards, card)
  redis.call('HDEL', blocks, text(first))
end
local function segment(place) return math.floor((place - 1) / 131072) end
local function index(number) return KEYS[1] .. ':index:' .. text(number) end
";

/// Files blocks with their index; drops what is older than `keep` seconds; answers which places
/// to join, if it is time to.
///
/// What is added to the index of the segment that is being filled is appended to texts, so that the
/// append-only file grows by the entries alone; a segment that is full is folded into one hash,
/// which has no spare bytes.
///
/// A block of fewer than 256 receipts that comes alone is small. After 64 small ones in a row, or
/// 512 receipts in them, or before a larger one, they are to be joined.
const APPEND: &str = "
local head = redis.call('HMGET', KEYS[1], 'next', 'small', 'small_from', 'low', 'open')
local begin, small = tonumber(head[1] or 1), tonumber(head[2] or 0)
local small_from, low = tonumber(head[3] or 1), tonumber(head[4] or 0)
local open = tonumber(head[5] or 0)
local place, a, count = begin, 3, tonumber(ARGV[2])
for _ = 1, count do
  local many = tonumber(ARGV[a])
  file(place, ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3])
  while open < segment(place) do
    for field = 0, 127 do
      local part = index(open) .. ':' .. field
      local entries = redis.call('GET', part)
      if entries then
        redis.call('HSET', index(open), field, entries)
        redis.call('DEL', part)
      end
    end
    open = open + 1
  end
  local mark = string.char(math.floor((place - 1) / 512) % 256)
  if mark == '%' then mark = '%%' end
  local groups = tonumber(ARGV[a + 4])
  a = a + 5
  for _ = 1, groups do
    local add = string.gsub(ARGV[a + 1], '...', '%0' .. mark)
    redis.call('APPEND', index(open) .. ':' .. ARGV[a], add)
    a = a + 2
  end
  place = place + many
end
local from, to = 0, 0
if count == 1 and place - begin < 256 then
  if small == 0 then small_from = begin end
  small = small + 1
  if small >= 64 or place - small_from >= 512 then from, to, small = small_from, place, 0 end
else
  if small > 1 then from, to = small_from, begin end
  small = 0
end
if ARGV[1] ~= '' then
  local oldest = tonumber(redis.call('TIME')[1]) - tonumber(ARGV[1])
  for _ = 1, count * 2 + 2 do
    local card = redis.call('ZRANGE', cards, 0, 0)[1]
    if not card then break end
    local first, many, _, most = parts(card)
    if most >= oldest then break end
    drop(card, first)
  end
  local card = redis.call('ZRANGE', cards, 0, 0)[1]
  local first = card and parts(card) or place
  while low < segment(math.max(1, first - 512)) do
    redis.call('DEL', index(low))
    low = low + 1
  end
end
redis.call('HSET', KEYS[1], 'next', text(place), 'small', small, 'small_from', text(small_from), \
'low', text(low), 'open', text(open))
return {from, to}
";

/// Puts blocks in the place of those that hold exactly the same places; answers whether they did.
const JOIN: &str = "
local from, to = tonumber(ARGV[1]), tonumber(ARGV[2])
local old = redis.call('ZRANGEBYSCORE', cards, text(from), '(' .. text(to))
local place = from
for _, card in ipairs(old) do
  local first, many = parts(card)
  if first ~= place then return 0 end
  place = place + many
end
if place ~= to then return 0 end
local sum = 0
for a = 3, #ARGV, 4 do sum = sum + tonumber(ARGV[a]) end
if sum ~= to - from then return 0 end
for _, card in ipairs(old) do
  local first = parts(card)
  drop(card, first)
end
place = from
for a = 3, #ARGV, 4 do
  file(place, ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3])
  place = place + tonumber(ARGV[a])
end
return 1
";

/// Reads up to so many blocks, with their cards, that hold places from the first argument on and
/// before the second, dated between the third and the fourth. Answers the place to go on from, 0
/// at the end, and the cards and blocks.
const READ: &str = "
local from, to = tonumber(ARGV[1]), '(' .. ARGV[2]
local least, most, max = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local found, start = {}, text(math.max(1, from - 511))
for _ = 1, 20 do
  local some = redis.call('ZRANGEBYSCORE', cards, start, to, 'LIMIT', 0, 100)
  if #some == 0 then return {0, found} end
  for _, card in ipairs(some) do
    local first, many, min, max_at = parts(card)
    local after = first + many
    if after > from and max_at >= least and min <= most then
      found[#found + 1] = card
      found[#found + 1] = redis.call('HGET', blocks, text(first)) or ''
      if #found >= 2 * max then return {after, found} end
    end
    start = text(after)
  end
end
return {tonumber(start), found}
";

/// Goes on where memory is full; also at the start, or nobody could drain it.
const GOES_ON: &str = "#!lua flags=allow-oom\n";

/// The log's scripts.
pub(super) struct Scripts {
    pub(super) open: Script,
    pub(super) append: Script,
    /// The same for what makes room.
    pub(super) append_on: Script,
    pub(super) join: Script,
    pub(super) read: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let with_cards = |text| Script::new(&format!("{COMMON}{text}"));
        Self {
            open: Script::new(&format!("{GOES_ON}{OPEN}")),
            append: with_cards(APPEND),
            append_on: Script::new(&format!("{GOES_ON}{COMMON}{APPEND}")),
            join: Script::new(&format!("{GOES_ON}{COMMON}{JOIN}")),
            read: with_cards(READ),
        }
    }
}
