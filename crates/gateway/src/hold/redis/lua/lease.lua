-- Lends. ARGV: lane, now, now as a text, until, most, first and last priority, pick ('' any, else '=' and
-- purpose and campaign). Answers the loan, flat sevens (block, shelf, first, count, from, to,
-- lapsed), and flat fives of shelves (id, priority, due, purpose and campaign, class).
local lane, now8, till = ARGV[1], ARGV[2], ARGV[4]
local now, nanos = instant(ARGV[3])
local want, pick = tonumber(ARGV[5]), ARGV[8]
local queue = K .. 'q' .. lane
local id = tonumber(call('HGET', K .. 'm', 'loan') or 0) + 1
local out, seen, nos, lent = {}, {}, {}, 0
reclaim(lane, now8, now, nanos)
flush()

-- A block with something to lend: where its next held run begins.
local function candidate(r)
  for i = 1, #r.runs, 6 do
    if r.runs[i + 2] == 0 then
      return {r = r, runs = r.runs, i = i, slot = r.runs[i], next = seq(r, r.runs[i])}
    end
  end
end

-- Lends from the candidate what arrived before `stop`; says whether it has more.
local function take(c, stop)
  local r, runs = c.r, c.runs
  while want > 0 and c.next < stop do
    local to, lapsed = c.slot, runs[c.i + 3]
    local last = min(runs[c.i + 1], c.slot + want - 1)
    if r.arr == '' then
      to = min(last, stop - r.first - 1)
    else
      while to < last and seq(r, to + 1) < stop do to = to + 1 end
    end
    local got = to - c.slot + 1
    want, lent = want - got, lent + got
    if not nos[r.no] then nos[r.no] = true end
    turn(r, c.slot, to, function() return 1, lapsed, id, 0 end)
    local k = #out
    out[k + 1], out[k + 2], out[k + 3], out[k + 4] = r.no, r.shelf, r.first, r.n
    out[k + 5], out[k + 6], out[k + 7] = c.slot, to, lapsed
    seen[r.shelf] = true
    c.slot = to + 1
    if c.slot > runs[c.i + 1] then
      repeat c.i = c.i + 6 until c.i > #runs or runs[c.i + 2] == 0
      if c.i > #runs then return false end
      c.slot = runs[c.i]
    end
    c.next = seq(r, c.slot)
  end
  return true
end

-- Lends from blocks of one due, by arrival, what arrived before `stop`.
local function drain(open, stop)
  while want > 0 and #open > 0 do
    local best, second = 1, stop
    for i = 2, #open do
      if open[i].next < open[best].next then best = i end
    end
    for i = 1, #open do
      if i ~= best then second = min(second, open[i].next) end
    end
    if open[best].next >= stop then return end
    if not take(open[best], second) then table.remove(open, best) end
  end
end

for priority = tonumber(ARGV[6]), tonumber(ARGV[7]) do
  local open, due, from = {}, nil, '[' .. char(priority)
  local to = '[' .. char(priority) .. now8 .. rep('\255', 40)
  while want > 0 do
    local page = call('ZRANGEBYLEX', queue, from, to, 'LIMIT', 0, 16)
    for _, m in ipairs(page) do
      from = '(' .. m
      local no, on = string.match(sub(m, 18), '^(%d+):(%d+)$')
      on = tonumber(on)
      if want > 0 and (pick == '' or shelf(on)[4] == sub(pick, 2)) then
        if sub(m, 2, 9) ~= due then drain(open, math.huge); open = {}; due = sub(m, 2, 9) end
        drain(open, (struct.unpack('>I8', m, 10)))
        if want > 0 then open[#open + 1] = candidate(rec(tonumber(no))) end
      end
    end
    if #page < 16 then break end
  end
  drain(open, math.huge)
end

if lent > 0 then
  local list = {}
  for no in pairs(nos) do list[#list + 1] = no end
  call('HSET', K .. 'm', 'loan', id)
  call('HSET', K .. 'l', id, pack({till, lane, lent, list}))
  call('ZADD', K .. 't' .. lane, 0, till .. struct.pack('>I8', id))
  call('SADD', K .. 'a', lane)
end
flush()
local names = {}
for on in pairs(seen) do
  local s, k = shelf(on), #names
  names[k + 1], names[k + 2], names[k + 3], names[k + 4], names[k + 5] = on, s[2], s[3], s[4], s[5]
end
return {id, out, names}
