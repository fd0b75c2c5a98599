-- Ends loans. ARGV: now, now as a text, how many ends, ends of 5 (block, from, to, loan, state),
-- messages that arrive anew, a stamp that no other call has, blocks with sources (block, slot, loan
-- or 0 for a kick, checksum). Answers a text for each end and for each block: 0 lapsed, 1 obeyed,
-- 2 recalled; and the blocks' numbers (0: none).
local now8, ends = ARGV[1], tonumber(ARGV[3])
local now, nanos = instant(ARGV[2])
local answers = {}

local function running(id)
  local l = loan(id)
  if l and before(now8, l[1]) then return l end
end

for i = 4, 3 + ends * 5, 5 do
  local no, from, to = tonumber(ARGV[i]), tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local id, state = tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4])
  local r, l, said = rec(no), running(id), {}
  for j = 1, to - from + 1 do said[j] = '0' end
  if r and l then
    turn(r, from, to, function(s, a, b, c, lo, hi)
      if s ~= 1 or b ~= id then return end
      for j = lo - from + 1, hi - from + 1 do said[j] = '1' end
      l[3], l.dirty = l[3] - (hi - lo + 1), true
      return state, now, nanos, 0
    end)
  end
  answers[#answers + 1] = table.concat(said)
end

local first, nos = 4 + ends * 5, {}
for i = first + 2, #ARGV, WIDTH do
  local sources = ARGV[i + 12]
  answers[#answers + 1], nos[#nos + 1] = write_some(i, ARGV[first + 1], function(slot)
    local from, at, id, sum = struct.unpack('<I6I2I8I4', sources, slot * 20 + 1)
    local r, l = rec(from), id > 0 and running(id)
    if not r or r.sum ~= sum or (id > 0 and not l) then return '0' end
    local answer, lapsed = '0', nil
    turn(r, at, at, function(s, a, b, c)
      if id == 0 and s == 2 then
        answer, lapsed = '1', 0
        return 9, 0, 0, 0
      elseif id > 0 and s == 1 and b == id then
        l[3], l.dirty = l[3] - 1, true
        if c == 1 then
          answer = '2'
          return 3, now, nanos, 0
        end
        answer, lapsed = '1', a
        return 9, 0, 0, 0
      end
    end)
    return answer, lapsed
  end)
end
written(tonumber(ARGV[first]), ARGV[first + 1])
return {answers, nos}
