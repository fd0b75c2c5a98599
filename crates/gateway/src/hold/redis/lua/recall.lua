-- Takes back. ARGV: now as a text, then threes: block, from, to; or 'id', hash, ''. Answers how many were
-- taken back, and how many are on loan and will be.
local recalled, flying = 0, 0
local now, nanos = instant(ARGV[1])
local meta = call('HMGET', K .. 'm', 'buckets', 'pow')
local buckets, pow = tonumber(meta[1]), tonumber(meta[2])

local function back(r, from, to)
  turn(r, from, to, function(s, a, b, c, lo, hi)
    if s == 0 or s == 2 then
      recalled = recalled + hi - lo + 1
      return 3, now, nanos, 0
    elseif s == 1 and c == 0 then
      flying = flying + hi - lo + 1
      return 1, a, b, 1
    end
  end)
end

for i = 2, #ARGV, 3 do
  local no, from, to = tonumber(ARGV[i]), tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  if ARGV[i] == 'id' then
    local h = struct.unpack('<I4', ARGV[i + 1]) % (2 * pow)
    if h >= buckets then h = h - pow end
    local at = tonumber(call('HGET', K .. 'i' .. h, ARGV[i + 1]) or -1)
    no, from, to = floor(at / SLOTS), at % SLOTS, at % SLOTS
  end
  local r = no >= 0 and rec(no)
  if r then back(r, from, to) end
end
flush()
return {recalled, flying}
