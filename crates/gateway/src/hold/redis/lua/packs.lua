-- The ids of blocks (ARGV 2 and on), empty where one is gone. Stops where it has ARGV 1 of them.
local out, ids = {}, 0
for i = 2, #ARGV do
  local text = ids_of(tonumber(ARGV[i]))
  out[#out + 1] = text
  ids = ids + #text / ID
  if ids >= tonumber(ARGV[1]) then break end
end
return out
