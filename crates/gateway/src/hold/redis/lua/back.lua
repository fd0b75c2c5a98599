-- Takes messages back at the instant ARGV[1].
local recalled, flying = 0, 0
local now, nanos = instant(ARGV[1])

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
