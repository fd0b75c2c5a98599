-- Shelves, flat nines: id, lane, priority, due, purpose and campaign, class, held, leased, buried.
local all, out = call('HGETALL', K .. 'k'), {}
for i = 1, #all, 2 do
  local s, k = unmsg(all[i + 1]), #out
  local c = call('HGET', K .. 'c', all[i])
  c = c and unmsg(c) or {0, 0, 0}
  out[k + 1], out[k + 2], out[k + 3], out[k + 4] = tonumber(all[i]), s[1], s[2], s[3]
  out[k + 5], out[k + 6], out[k + 7], out[k + 8], out[k + 9] = s[4], s[5], c[1], c[2], c[3]
end
return out
