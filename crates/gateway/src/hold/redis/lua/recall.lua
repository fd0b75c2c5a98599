-- Takes back. ARGV: now as a text, then threes: block, from, to. Answers how many were taken back,
-- and how many are on loan and will be.
for i = 2, #ARGV, 3 do
  local r = rec(tonumber(ARGV[i]))
  if r then back(r, tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])) end
end
flush()
return {recalled, flying}
