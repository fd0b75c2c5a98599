-- How blocks are written, and ids kept. A block is 13 arguments: bytes in two pieces, lane,
-- priority, due (or @ and a shelf), purpose and campaign, class, count, hashes of ids (10 bytes each), arrivals (none:
-- a run; else 16 bits each, less the first), the first's place in this call, state, sources.
local meta = call('HMGET', K .. 'm', 'block', 'seq', 'buckets', 'pow', 'ids')
local block, last = tonumber(meta[1] or 0), tonumber(meta[2] or 0)
local buckets, pow, ids = tonumber(meta[3]), tonumber(meta[4]), tonumber(meta[5] or 0)
local WIDTH = 13

local function bucket(h)
  local b = h % (2 * pow)
  if b >= buckets then b = b - pow end
  return K .. 'i' .. b
end

-- Whether an id whose message stands in this slot is still known: it lives, or did not end before
-- this instant.
local function known(r, slot, ms, ns)
  for i = 1, #r.runs, 6 do
    if slot <= r.runs[i + 1] then
      local s = r.runs[i + 2]
      local a, b = r.runs[i + 3], r.runs[i + 4]
      return s < 3 or (s < 9 and (a > ms or (a == ms and b >= ns)))
    end
  end
  return false
end

-- Splits buckets until their mean is right with `more` ids: linear hashing, so that each stays a
-- listpack.
local function grow(more)
  while ids + more > buckets * LOAD do
    local from, to = K .. 'i' .. (buckets - pow), K .. 'i' .. buckets
    local all = call('HGETALL', from)
    local go, gone = {}, {}
    for j = 1, #all, 2 do
      if struct.unpack('<I4', all[j]) % (2 * pow) == buckets then
        go[#go + 1], go[#go + 2], gone[#gone + 1] = all[j], all[j + 1], all[j]
      end
    end
    if #gone > 0 then
      call('HSET', to, unpack(go))
      call('HDEL', from, unpack(gone))
    end
    buckets = buckets + 1
    if buckets == 2 * pow then pow = buckets end
  end
end

-- Writes the block at ARGV[i]. take(slot, no, hash, key) -> answer, and the lapsed mark (0 or 1)
-- where the slot is to be filled. Says the answers.
local function write(i, take)
  local n, hashes, state = tonumber(ARGV[i + 7]), ARGV[i + 8], tonumber(ARGV[i + 11])
  local no = block + 1
  block = no
  local runs, k, live, said = {}, 0, false, {}
  for slot = 0, n - 1 do
    local at = slot * 10 + 1
    local key = bucket((struct.unpack('<I4', hashes, at)))
    local answer, a = take(slot, no, sub(hashes, at, at + 9), key)
    said[slot + 1] = answer
    local s = state
    if a then live = true else s, a = 9, 0 end
    if k > 0 and runs[k - 3] == s and runs[k - 2] == a then
      runs[k - 4] = slot
    else
      runs[k + 1], runs[k + 2], runs[k + 3] = slot, slot, s
      runs[k + 4], runs[k + 5], runs[k + 6] = a, 0, 0
      k = k + 6
    end
  end
  if live then
    call('SET', K .. 'b' .. no, ARGV[i])
    if ARGV[i + 1] ~= '' then call('SET', K .. 'b' .. no .. '+', ARGV[i + 1]) end
    -- What is buried stays on its shelf, whose due may have moved since.
    local on = tonumber(string.match(ARGV[i + 4], '^@(%d+)$'))
      or shelf_of(ARGV[i + 2], tonumber(ARGV[i + 3]), ARGV[i + 4], ARGV[i + 5], ARGV[i + 6])
    recs[no] = {
      no = no, shelf = on, first = last + 1 + tonumber(ARGV[i + 10]), n = n, arr = ARGV[i + 9],
      runs = runs, h = 0, l = 0, b = 0, dirty = true,
    }
  end
  return table.concat(said)
end

-- Ends the script: `count` arrivals were given.
local function written(count)
  flush()
  call('HSET', K .. 'm', 'block', block, 'seq', last + count, 'buckets', buckets, 'pow', pow,
    'ids', ids)
end
