-- Which of the blocks ARGV 1 (6 bytes each) have a record: the last block there is, and a text of 0
-- and 1.
local out = {}
for i = 1, #ARGV[1], 6 do
  local no = struct.unpack('<I6', ARGV[1], i)
  out[#out + 1] = call('HEXISTS', K .. 's', no) == 1 and '1' or '0'
end
return {block, table.concat(out)}
