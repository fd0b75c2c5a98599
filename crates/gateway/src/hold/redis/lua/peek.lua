-- Puts back what is over on a lane (ARGV 1; '' all of them), at ARGV 2 (now) and 3 (the same as a text). Answers
-- the priorities of which something is due, one byte each.
local now8, due = ARGV[2], {}
local now, nanos = instant(ARGV[3])
if ARGV[1] == '' then
  for _, lane in ipairs(call('SMEMBERS', K .. 'a')) do
    reclaim(lane, now8, now, nanos)
    if call('EXISTS', K .. 't' .. lane) == 0 then call('SREM', K .. 'a', lane) end
  end
  flush()
  return ''
end
reclaim(ARGV[1], now8, now, nanos)
flush()
for priority = 0, tonumber(ARGV[4]) do
  local to = '[' .. char(priority) .. now8 .. rep('\255', 40)
  local found = call('ZRANGEBYLEX', K .. 'q' .. ARGV[1], '[' .. char(priority), to, 'LIMIT', 0, 1)
  if #found > 0 then due[#due + 1] = char(priority) end
end
return table.concat(due)
