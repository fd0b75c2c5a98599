-- How blocks are written. A block is 13 arguments: bytes in two pieces, lane, priority, due (or @
-- and a shelf), purpose and campaign, class, count, hashes of ids, arrivals (none: a run; else 16
-- bits each, less the first), the first's place in this call, state, sources.
local WIDTH = 13
local begun = block

-- Writes the block at ARGV[i] with these runs and hashes; says its number.
local function write(i, stamp, runs, hashes)
  local n, no, ids = tonumber(ARGV[i + 7]), block + 1, stamp .. hashes
  block = no
  call('SET', K .. 'b' .. no, ARGV[i])
  if ARGV[i + 1] ~= '' then call('SET', K .. 'b' .. no .. '+', ARGV[i + 1]) end
  if n > SMALL then
    call('SET', K .. 'h' .. no, ids)
    ids = ''
  end
  -- What is buried stays on its shelf, whose due may have moved since.
  local on = tonumber(string.match(ARGV[i + 4], '^@(%d+)$'))
    or shelf_of(ARGV[i + 2], tonumber(ARGV[i + 3]), ARGV[i + 4], ARGV[i + 5], ARGV[i + 6])
  recs[no] = {
    no = no, shelf = on, first = last + 1 + tonumber(ARGV[i + 10]), n = n, arr = ARGV[i + 9],
    -- Its checksum, by which a copy of a block is told from one that a failover took back.
    runs = runs, h = 0, l = 0, b = 0, dirty = true, sum = struct.unpack('<I4', ARGV[i], 2),
    ids = ids,
  }
  return no
end

-- Writes those messages of the block at ARGV[i] for which take(slot) says, behind its answer, a
-- lapsed mark (0 or 1). Says the answers, and the block's number (0: nothing to write).
local function write_some(i, stamp, take)
  local n, hashes, state = tonumber(ARGV[i + 7]), ARGV[i + 8], tonumber(ARGV[i + 11])
  local runs, k, live, whole, said, ids = {}, 0, false, true, {}, {}
  for slot = 0, n - 1 do
    local answer, a = take(slot)
    said[slot + 1] = answer
    local s = state
    if a then
      live = true
      ids[slot + 1] = sub(hashes, slot * ID + 1, slot * ID + ID)
    else
      s, a, whole = 9, 0, false
      ids[slot + 1] = rep('\0', ID)
    end
    if k > 0 and runs[k - 3] == s and runs[k - 2] == a then
      runs[k - 4] = slot
    else
      runs[k + 1], runs[k + 2], runs[k + 3] = slot, slot, s
      runs[k + 4], runs[k + 5], runs[k + 6] = a, 0, 0
      k = k + 6
    end
  end
  if not whole then hashes = table.concat(ids) end
  return table.concat(said), live and write(i, stamp, runs, hashes) or 0
end

-- Ends the script: blocks of this stamp were written, `count` arrivals given.
local function written(count, stamp)
  flush()
  if block > begun then
    local at = (begun + 1) % RING
    local some = min(block - begun, RING - at)
    call('SETRANGE', K .. 'y', at * STAMP, rep(stamp, some))
    if block - begun > some then
      call('SETRANGE', K .. 'y', 0, rep(stamp, block - begun - some))
    end
    call('HSET', K .. 'm', 'block', block, 'seq', last + count, 'stamp', stamp)
  end
end
