-- What processes know of ids. Each keeps in memory where ids may stand, up to a block whose stamp
-- it knows. It says what it suspects, and is told what it has not seen; see docs/adr/0036. Ids of a
-- block are its stamp (8 bytes) and a hash (10 bytes) for each slot, zeros where nothing was put.
local ID, STAMP, EACH = 10, 8, 50
-- The stamps of so many blocks are kept in a ring, whatever becomes of the blocks: one whose
-- messages have all moved is gone at once.
local RING = 4096
-- What others may have put that a process has not seen: to look at it takes some 3 ms. Of its own
-- there may be as much as the ring tells.
local UNSEEN_BLOCKS, UNSEEN_IDS = 256, 8192
local meta = call('HMGET', K .. 'm', 'block', 'seq', 'stamp')
local block, last, newest = tonumber(meta[1] or 0), tonumber(meta[2] or 0), meta[3] or ''
local BEHIND, RELOAD = 1, 2

local function ids_of(no)
  local text = call('GET', K .. 'h' .. no)
  if text then return text end
  local r = rec(no)
  return r and r.ids or ''
end

-- Empty where the block is gone long ago.
local function stamp_of(no)
  if no == block then return newest end
  if no > block - RING then
    local at = no % RING * STAMP
    return call('GETRANGE', K .. 'y', at, at + STAMP - 1)
  end
  local text = call('GETRANGE', K .. 'h' .. no, 0, STAMP - 1)
  if text ~= '' then return text end
  local r = rec(no)
  return r and sub(r.ids, 1, STAMP) or ''
end

local function hash_at(no, slot)
  local at = STAMP + slot * ID
  local text = call('GETRANGE', K .. 'h' .. no, at, at + ID - 1)
  if text ~= '' then return text end
  local r = rec(no)
  return r and sub(r.ids, at + 1, at + ID) or ''
end

-- Whether what a process knows up to this block is so here, and was not taken back by a failover.
local function stands(upto, stamp)
  return upto == 0 or (upto <= block and stamp_of(upto) == stamp)
end

-- A block as it is told: `p` and its ids, or `g` and its stamp where that is known: gone.
local function tell(no, stamp)
  local ids = stamp == '' and '' or ids_of(no)
  if ids ~= '' then return 'p' .. ids end
  return 'g' .. stamp
end

-- The stamps behind block `from`, of less than a ring.
local function stamps_behind(from)
  local at, left = (from + 1) % RING * STAMP, (block - from) * STAMP
  local text = call('GETRANGE', K .. 'y', at, min(at + left, RING * STAMP) - 1)
  if #text < left then text = text .. call('GETRANGE', K .. 'y', 0, left - #text - 1) end
  return text
end

-- Many numbers at once: Lua is slow to cut texts.
local FORMAT = rep('I4xxxxxx', EACH)
local function heads(hashes, at, left)
  if left < EACH then return {struct.unpack('<' .. rep('I4xxxxxx', left), hashes, at)}, left end
  return {struct.unpack('<' .. FORMAT, hashes, at)}, EACH
end

-- Tells found(id, block, slot) where ids of `lots` stand in the blocks of `told`.
local function compare(lots, told, before, found)
  local ids, more = {}, {}
  for _, lot in ipairs(lots) do
    local i, n = 0, #lot.hashes / ID
    while i < n do
      local some, k = heads(lot.hashes, i * ID + 1, n - i)
      for j = 1, k do
        local id, other = lot.first + i + j - 1, ids[some[j]]
        if other then more[id] = other end
        ids[some[j]] = id
      end
      i = i + k
    end
  end
  local function hash_of(id)
    local l = #lots
    while lots[l].first > id do l = l - 1 end
    local at = (id - lots[l].first) * ID
    return sub(lots[l].hashes, at + 1, at + ID)
  end
  for t, text in ipairs(told) do
    local i, n = 0, string.byte(text) == 112 and (#text - 1 - STAMP) / ID or 0
    while i < n do
      local at = 1 + STAMP + i * ID
      local some, k = heads(text, at + 1, n - i)
      for j = 1, k do
        local id = ids[some[j]]
        while id do
          local from = at + (j - 1) * ID
          if hash_of(id) == sub(text, from + 1, from + ID) then found(id, before + t, i + j - 1) end
          id = more[id]
        end
      end
      i = i + k
    end
  end
end

-- Tells found(id, block, slot) where the ids asked for stand, by their hashes; perhaps twice. Lots
-- are {first, hashes}: the number of the first id, 10 bytes each. ARGV[i] and on: the last block
-- that the process knows, its stamp, stamps of calls whose ids it has compared itself, what it
-- suspects (20 bytes each: id, block, slot, hash). Says the blocks that it has not seen, or BEHIND
-- or RELOAD, before anything was found.
local function seek(i, lots, found)
  local upto, own, suspects = tonumber(ARGV[i]), {}, ARGV[i + 3]
  if not stands(upto, ARGV[i + 1]) then return RELOAD end
  if block - upto >= RING then return BEHIND end
  for j = 1, #ARGV[i + 2], STAMP do own[sub(ARGV[i + 2], j, j + STAMP - 1)] = true end
  local told, others, ids = {}, 0, 0
  local stamps = block > upto and stamps_behind(upto) or ''
  for i = 1, block - upto do
    local stamp = sub(stamps, i * STAMP - STAMP + 1, i * STAMP)
    if own[stamp] then
      -- Of a call whose ids the process has.
      told[i] = 'o' .. stamp
    else
      local text = tell(upto + i, stamp)
      told[i], others = text, others + 1
      if string.byte(text) == 112 then ids = ids + (#text - 1 - STAMP) / ID end
      if others > UNSEEN_BLOCKS or ids > UNSEEN_IDS then return BEHIND end
    end
  end
  if ids > 0 then compare(lots, told, upto, found) end
  for j = 1, #suspects, 20 do
    local id, no, slot, hash = struct.unpack('<I2I6I2c10', suspects, j)
    if hash_at(no, slot) == hash then found(id, no, slot) end
  end
  return told
end
