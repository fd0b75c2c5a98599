-- Stores blocks. ARGV: what ended before this is forgotten, messages in this
-- call, blocks. Answers a text of 0 (known)
-- and 1 (new) for each block.
local ms, ns = instant(ARGV[1])
local answers = {}
grow(tonumber(ARGV[2]))
for i = 3, #ARGV, WIDTH do
  answers[#answers + 1] = write(i, function(slot, no, field, key)
    local value = no * SLOTS + slot
    if call('HSETNX', key, field, value) == 1 then
      ids = ids + 1
      return '1', 0
    end
    local at = tonumber(call('HGET', key, field))
    local on = floor(at / SLOTS)
    if on == no then return '0' end
    local r = rec(on)
    if r and known(r, at % SLOTS, ms, ns) then return '0' end
    -- Its end is forgotten here and now.
    if r then turn(r, at % SLOTS, at % SLOTS, function() return 9, 0, 0, 0 end) end
    call('HSET', key, field, value)
    return '1', 0
  end)
end
written(tonumber(ARGV[2]))
return answers
