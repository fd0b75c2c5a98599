-- Where ids are that are held, on loan or buried. ARGV: hashes of 10 bytes. Answers an array each:
-- block, slot, count, state, priority, due, purpose and campaign, class, lane, shelf; or none.
local meta = call('HMGET', K .. 'm', 'buckets', 'pow')
local buckets, pow = tonumber(meta[1]), tonumber(meta[2])
local out = {}
for i, field in ipairs(ARGV) do
  local b = struct.unpack('<I4', field) % (2 * pow)
  if b >= buckets then b = b - pow end
  local at = tonumber(call('HGET', K .. 'i' .. b, field) or -1)
  local r = at >= 0 and rec(floor(at / SLOTS))
  out[i] = {}
  for j = 1, r and #r.runs or 0, 6 do
    local slot = at % SLOTS
    if r.runs[j] <= slot and slot <= r.runs[j + 1] and r.runs[j + 2] < 3 then
      local s = shelf(r.shelf)
      out[i] = {r.no, slot, r.n, r.runs[j + 2], s[2], s[3], s[4], s[5], s[1], r.shelf}
    end
  end
end
return out
