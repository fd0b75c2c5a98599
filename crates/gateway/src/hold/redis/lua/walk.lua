-- Clears ARGV 1 buckets of ids that are forgotten. Answers how many such ids there are still, and
-- how many ids.
local meta = call('HMGET', K .. 'm', 'buckets', 'walk', 'stale', 'ids')
local buckets, at = tonumber(meta[1]), tonumber(meta[2] or 0)
local stale, ids = tonumber(meta[3] or 0), tonumber(meta[4] or 0)

local function forgotten(value)
  local no, slot = floor(value / SLOTS), value % SLOTS
  local r = rec(no)
  if not r then return true end
  for i = 1, #r.runs, 6 do
    if slot <= r.runs[i + 1] then return r.runs[i + 2] == 9 end
  end
  return true
end

for _ = 1, min(tonumber(ARGV[1]), buckets) do
  if at >= buckets then at = 0 end
  local key, gone = K .. 'i' .. at, {}
  local all = call('HGETALL', key)
  for j = 1, #all, 2 do
    if forgotten(tonumber(all[j + 1])) then gone[#gone + 1] = all[j] end
  end
  if #gone > 0 then
    call('HDEL', key, unpack(gone))
    stale, ids = max(stale - #gone, 0), ids - #gone
  end
  at = at + 1
end
call('HSET', K .. 'm', 'walk', at, 'stale', stale, 'ids', ids)
return {stale, ids}
