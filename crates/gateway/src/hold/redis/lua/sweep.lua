-- Forgets those that ended before ARGV 1 in up to ARGV 2 blocks. Answers how many messages, and
-- how many blocks were looked at.
local ms, ns = instant(ARGV[1])
local count = 0
local old = call('ZRANGEBYSCORE', K .. 'e', '-inf', ms, 'LIMIT', 0, tonumber(ARGV[2]))
for _, no in ipairs(old) do
  local r = rec(tonumber(no))
  if r then
    turn(r, 0, r.n - 1, function(s, a, b, c, lo, hi)
      if s > 2 and s < 9 and (a < ms or (a == ms and b < ns)) then
        count = count + hi - lo + 1
        return 9, 0, 0, 0
      end
    end)
  else
    call('ZREM', K .. 'e', no)
  end
end
flush()
return {count, #old}
