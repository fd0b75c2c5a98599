-- Where ids stand in blocks, for those who ask about a few and keep no table. ARGV: hashes, then
-- numbers of blocks. Answers places as `seek` takes them.
local hashes, out = ARGV[1], {}
for i = 2, #ARGV do
  local no = tonumber(ARGV[i])
  local text = ids_of(no)
  for id = 0, #hashes / ID - 1 do
    local hash = sub(hashes, id * ID + 1, id * ID + ID)
    local at = string.find(text, hash, STAMP + 1, true)
    while at do
      local slot = (at - 1 - STAMP) / ID
      if slot == floor(slot) then
        out[#out + 1] = struct.pack('<I2I6I2', id, no, slot) .. hash
      end
      at = string.find(text, hash, at + 1, true)
    end
  end
end
return table.concat(out)
