-- Where ids are that are held, on loan or buried. ARGV: what `seek` wants (4), hashes. Answers what
-- it says, and an array for each id: block, slot, count, state, priority, due, purpose and
-- campaign, class, lane, shelf, checksum, of the held 1 if it lapsed before; or none.
local out = {}
for id = 1, #ARGV[5] / ID do out[id] = {} end
local told = seek(1, {{first = 0, hashes = ARGV[5]}}, function(id, no, slot)
  local r = rec(no)
  local state, lapsed = 9, 0
  if r then state, lapsed = state_at(r, slot) end
  if state < 3 then
    local s = shelf(r.shelf)
    out[id + 1] = {no, slot, r.n, state, s[2], s[3], s[4], s[5], s[1], r.shelf, r.sum,
      lapsed}
  end
end)
if type(told) == 'number' then return told end
return {told, out}
