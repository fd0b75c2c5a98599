-- What all scripts share. KEYS[1] is what the keys of one partition begin with; docs/adr/0033 has
-- the layout, docs/adr/0036 that of ids. Slots of a block are told in runs of six: from, to, state, a, b, c.
--   0 held    a: lapsed before            1 on loan  a: lapsed before, b: loan, c: recalled
--   2 buried  a: lapsed before            9 not there (any more)
--   3..7 ended, by their State  a, b: when, in milliseconds and nanoseconds after these
local K = KEYS[1]
local call, pack, unmsg = redis.call, cmsgpack.pack, cmsgpack.unpack
local floor, min, max = math.floor, math.min, math.max
local sub, char, rep = string.sub, string.char, string.rep
-- Blocks of up to so many messages keep their ids in their record: a key of their own costs more.
local SMALL = 16
local recs, shelves, loans = {}, {}, {}

-- Whether instant `a` is before `b`. Lua compares strings by locale, so never as strings.
local function before(a, b)
  local a1, a2 = struct.unpack('>I4I4', a)
  local b1, b2 = struct.unpack('>I4I4', b)
  return a1 < b1 or (a1 == b1 and a2 < b2)
end

-- An instant as two numbers, of the text `milliseconds:nanoseconds`.
local function instant(text)
  local ms, ns = string.match(text, '^(-?%d+):(%d+)$')
  return tonumber(ms), tonumber(ns)
end

-- {lane, priority, due, purpose and campaign, class}, with `c` = {held, leased, buried}.
local function shelf(id)
  local s = shelves[id]
  if s == nil then
    local name = call('HGET', K .. 'k', id)
    s = name and unmsg(name) or false
    if s then
      local c = call('HGET', K .. 'c', id)
      s.name, s.c = name, c and unmsg(c) or {0, 0, 0}
    end
    shelves[id] = s
  end
  return s
end

local function shelf_of(lane, priority, due, pc, class)
  local name = pack({lane, priority, due, pc, class})
  local id = call('HGET', K .. 'n', name)
  if id then return tonumber(id) end
  id = call('HINCRBY', K .. 'm', 'shelf', 1)
  call('HSET', K .. 'n', name, id)
  call('HSET', K .. 'k', id, name)
  return id
end

-- Held, leased, buried, and when the first of those that ended did.
local function tally(runs)
  local h, l, b, e = 0, 0, 0, nil
  for i = 1, #runs, 6 do
    local n, s = runs[i + 1] - runs[i] + 1, runs[i + 2]
    if s == 0 then h = h + n
    elseif s == 1 then l = l + n
    elseif s == 2 then b = b + n
    elseif s < 9 and (not e or runs[i + 3] < e) then e = runs[i + 3] end
  end
  return h, l, b, e
end

local function rec(no)
  local r = recs[no]
  if r == nil then
    local text = call('HGET', K .. 's', no)
    if text then
      local t = unmsg(text)
      r = {no = no, shelf = t[1], first = t[2], n = t[3], arr = t[4], runs = t[5], sum = t[6],
        ids = t[7]}
      r.h, r.l, r.b, r.e = tally(r.runs)
    else
      r = false
    end
    recs[no] = r
  end
  return r
end

local function loan(id)
  local l = loans[id]
  if l == nil then
    local text = call('HGET', K .. 'l', id)
    l = text and unmsg(text) or false
    loans[id] = l
  end
  return l
end

-- A slot's state, and for those that ended when.
local function state_at(r, slot)
  local runs = r.runs
  local lo, hi = 0, #runs / 6 - 1
  while lo < hi do
    local mid = floor((lo + hi) / 2)
    if runs[mid * 6 + 2] < slot then lo = mid + 1 else hi = mid end
  end
  return runs[lo * 6 + 3], runs[lo * 6 + 4], runs[lo * 6 + 5]
end

-- A slot's arrival.
local function seq(r, slot)
  if r.arr == '' then return r.first + slot end
  return r.first + struct.unpack('<I2', r.arr, slot * 2 + 1)
end

-- A block's place in the queue of its lane.
local function place(r)
  local s = shelf(r.shelf)
  return char(s[2]) .. s[3] .. struct.pack('>I8', r.first) .. r.no .. ':' .. r.shelf
end

-- Turns the runs within from..to by f(state, a, b, c, lo, hi), which says nothing to leave one.
local function turn(r, from, to, f)
  local old, new, k = r.runs, {}, 0
  local function add(x, y, s, a, b, c)
    if k > 0 and new[k - 4] == x - 1 and new[k - 3] == s and new[k - 2] == a
      and new[k - 1] == b and new[k] == c then
      new[k - 4] = y
    else
      new[k + 1], new[k + 2], new[k + 3], new[k + 4], new[k + 5], new[k + 6] = x, y, s, a, b, c
      k = k + 6
    end
  end
  for i = 1, #old, 6 do
    local x, y, s, a, b, c = old[i], old[i + 1], old[i + 2], old[i + 3], old[i + 4], old[i + 5]
    local lo, hi = max(x, from), min(y, to)
    local s2, a2, b2, c2
    if lo <= hi then s2, a2, b2, c2 = f(s, a, b, c, lo, hi) end
    if s2 == nil then
      add(x, y, s, a, b, c)
    else
      if x < lo then add(x, lo - 1, s, a, b, c) end
      add(lo, hi, s2, a2, b2, c2)
      if hi < y then add(hi + 1, y, s, a, b, c) end
    end
  end
  r.runs, r.dirty = new, true
end

local function close_loan(id, l)
  call('HDEL', K .. 'l', id)
  call('ZREM', K .. 't' .. l[2], l[1] .. struct.pack('>I8', id))
  loans[id] = false
end

-- Puts back what is over on one lane.
local function reclaim(lane, now8, now, nanos)
  local over = call('ZRANGEBYLEX', K .. 't' .. lane, '-', '[' .. now8 .. rep('\255', 8))
  for _, m in ipairs(over) do
    local id = struct.unpack('>I8', m, 9)
    local l = loan(id)
    for _, no in ipairs(l and l[4] or {}) do
      local r = rec(no)
      if r then
        turn(r, 0, r.n - 1, function(s, a, b, c)
          if s == 1 and b == id then
            if c == 1 then return 3, now, nanos, 0 end
            return 0, 1, 0, 0
          end
        end)
      end
    end
    if l then close_loan(id, l) else call('ZREM', K .. 't' .. lane, m) end
  end
end

local function flush_block(no, r)
  local h, l, b, e = tally(r.runs)
  local s = shelf(r.shelf)
  if s then
    s.c[1], s.c[2], s.c[3] = s.c[1] + h - r.h, s.c[2] + l - r.l, s.c[3] + b - r.b
    s.dirty = true
    if h > 0 and r.h == 0 then call('ZADD', K .. 'q' .. s[1], 0, place(r))
    elseif h == 0 and r.h > 0 then call('ZREM', K .. 'q' .. s[1], place(r)) end
  end
  if b > 0 and r.b == 0 then call('ZADD', K .. 'u', r.first, no)
  elseif b == 0 and r.b > 0 then call('ZREM', K .. 'u', no) end
  local live, was = h + l + b, r.h + r.l + r.b
  if live == 0 and was > 0 then
    call('UNLINK', K .. 'b' .. no, K .. 'b' .. no .. '+')
    call('SREM', K .. 'x' .. r.shelf, no)
  elseif live > 0 and was == 0 then
    call('SADD', K .. 'x' .. r.shelf, no)
  end
  if e ~= r.e then
    if e then call('ZADD', K .. 'e', e, no) else call('ZREM', K .. 'e', no) end
  end
  if live > 0 or e then
    call('HSET', K .. 's', no, pack({r.shelf, r.first, r.n, r.arr, r.runs, r.sum, r.ids}))
  else
    call('HDEL', K .. 's', no)
    if r.n > SMALL then call('UNLINK', K .. 'h' .. no) end
  end
  r.h, r.l, r.b, r.e, r.dirty = h, l, b, e, false
end

-- Writes what the script has changed.
local function flush()
  for no, r in pairs(recs) do
    if r and r.dirty then flush_block(no, r) end
  end
  for id, s in pairs(shelves) do
    if s and s.dirty then
      local c = s.c
      if c[1] + c[2] + c[3] > 0 then
        call('HSET', K .. 'c', id, pack(c))
      else
        call('HDEL', K .. 'c', id)
        call('HDEL', K .. 'k', id)
        if tonumber(call('HGET', K .. 'n', s.name) or 0) == id then
          call('HDEL', K .. 'n', s.name)
        end
      end
    end
  end
  for id, l in pairs(loans) do
    if l and l.dirty then
      if l[3] > 0 then call('HSET', K .. 'l', id, pack({l[1], l[2], l[3], l[4]}))
      else close_loan(id, l) end
    end
  end
end
