-- What is known of the blocks ARGV: an array each of shelf, first, count, arrivals, runs; or none.
local out = {}
for i, no in ipairs(ARGV) do
  local r = rec(tonumber(no))
  out[i] = r and {r.shelf, r.first, r.n, r.arr, r.runs} or {}
end
return out
