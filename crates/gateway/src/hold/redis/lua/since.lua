-- Blocks that a process has not seen. ARGV: the last that it knows, its stamp, behind which to
-- begin, most blocks and most ids. Answers the last block there is, and the blocks as told; or
-- RELOAD.
if not stands(tonumber(ARGV[1]), ARGV[2]) then return RELOAD end
local from, ids, told = tonumber(ARGV[3]), 0, {}
for no = from + 1, min(block, from + tonumber(ARGV[4])) do
  local text = tell(no, stamp_of(no))
  told[#told + 1] = text
  ids = ids + #text / ID
  if ids >= tonumber(ARGV[5]) then break end
end
return {block, told}
