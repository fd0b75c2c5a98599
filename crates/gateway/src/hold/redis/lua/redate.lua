-- Moves the shelf ARGV 1 to the due ARGV 3 if it is due at or before ARGV 2; says how many held
-- messages moved.
local id, now8, to = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local s = shelf(id)
if not s or before(now8, s[3]) then return 0 end
if s[3] == to then return s.c[1] end
local queue, moved = K .. 'q' .. s[1], {}
for _, no in ipairs(call('SMEMBERS', K .. 'x' .. id)) do
  local r = rec(tonumber(no))
  if r and r.h > 0 then
    call('ZREM', queue, place(r))
    moved[#moved + 1] = r
  end
end
if tonumber(call('HGET', K .. 'n', s.name) or 0) == id then call('HDEL', K .. 'n', s.name) end
s[3] = to
s.name = pack({s[1], s[2], s[3], s[4], s[5]})
call('HSET', K .. 'k', id, s.name)
call('HSETNX', K .. 'n', s.name, id)
for _, r in ipairs(moved) do call('ZADD', queue, 0, place(r)) end
return s.c[1]
