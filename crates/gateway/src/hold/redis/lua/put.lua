-- Stores blocks. ARGV: what ended before this is forgotten, messages in this call, a stamp that no
-- other call has, what `seek` wants (4), blocks. Answers what `seek` says, a text of 0 (known) and
-- 1 (new) for each block, and the blocks' numbers (0: none).
local ms, ns = instant(ARGV[1])
local stamp, lots, count, old = ARGV[3], {}, 0, {}
for i = 8, #ARGV, WIDTH do
  lots[#lots + 1] = {first = count, hashes = ARGV[i + 8], at = i, old = 0}
  count = count + tonumber(ARGV[i + 7])
end

local told = seek(4, lots, function(id, no, slot)
  local r = not old[id] and rec(no)
  if not r then return end
  local s, a, b = state_at(r, slot)
  if s < 3 or (s < 9 and (a > ms or (a == ms and b >= ns))) then
    old[id] = true
    local l = #lots
    while lots[l].first > id do l = l - 1 end
    lots[l].old = lots[l].old + 1
  elseif s < 9 then
    -- Its end is forgotten here and now.
    turn(r, slot, slot, function() return 9, 0, 0, 0 end)
  end
end)
if type(told) == 'number' then return told end

local marks, nos = {}, {}
for l, lot in ipairs(lots) do
  local n = #lot.hashes / ID
  if lot.old == 0 then
    marks[l] = rep('1', n)
    nos[l] = write(lot.at, stamp, {0, n - 1, tonumber(ARGV[lot.at + 11]), 0, 0, 0}, lot.hashes)
  else
    marks[l], nos[l] = write_some(lot.at, stamp, function(slot)
      if old[lot.first + slot] then return '0' end
      return '1', 0
    end)
  end
end
written(tonumber(ARGV[2]), stamp)
-- Who waits for replicas waits for what it wrote last: what is only found to be known must be there,
-- too, or another's put that waits still would be acknowledged by the way.
if block == begun then call('HSET', K .. 'm', 'seq', last) end
return {told, marks, nos}
