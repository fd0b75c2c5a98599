-- Numbers of blocks that have a record: of one page, at the cursor ARGV 1, of about ARGV 2. Answers
-- the next cursor ('0': none), and the numbers, 6 bytes each.
local said = call('HSCAN', K .. 's', ARGV[1], 'COUNT', ARGV[2])
local nos = {}
for i = 1, #said[2], 2 do nos[#nos + 1] = struct.pack('<I6', tonumber(said[2][i])) end
return {said[1], table.concat(nos)}
