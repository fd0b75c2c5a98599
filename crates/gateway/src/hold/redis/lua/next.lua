-- The first due and the first end of a loan on a lane (ARGV 1), of priorities up to ARGV 2; '' none.
local first, loans_end = '', ''
for priority = 0, tonumber(ARGV[2]) do
  local to = '(' .. char(priority + 1)
  local found = call('ZRANGEBYLEX', K .. 'q' .. ARGV[1], '[' .. char(priority), to, 'LIMIT', 0, 1)
  local due = found[1] and sub(found[1], 2, 9)
  if due and (first == '' or before(due, first)) then first = due end
end
local over = call('ZRANGEBYLEX', K .. 't' .. ARGV[1], '-', '+', 'LIMIT', 0, 1)
if over[1] then loans_end = sub(over[1], 1, 8) end
return {first, loans_end}
