-- Takes one id back. ARGV: now as a text, what `seek` wants (4), its hash. Answers what that says,
-- how many were taken back, and how many are on loan and will be.
local told = seek(2, {{first = 0, hashes = ARGV[6]}}, function(_, no, slot)
  local r = rec(no)
  if r then back(r, slot, slot) end
end)
if type(told) == 'number' then return told end
flush()
return {told, recalled, flying}
